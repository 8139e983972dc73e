"""Versions written by earlier releases are opened, verified, and answer as they did."""

import json

import pytest

from index_builder.registry.registry import Registry
from serving.version.loaded_version import Version
from tests.data.freeze import HERE, answers
from twinspire_core.config.pipeline import load
from twinspire_core.contracts.manifest import FORMAT_VERSION

FORMATS = {"artifact_v2": 1}
FROZEN = sorted(HERE.glob("artifact_v*"))


def test_every_format_has_a_frozen_version():
    assert [home.name for home in FROZEN] == list(FORMATS)
    assert set(FORMATS.values()) == {n + 1 for n in range(FORMAT_VERSION)}


@pytest.mark.parametrize("home", FROZEN, ids=lambda home: home.name)
def test_a_frozen_version_is_whole_and_answers_as_it_did(home):
    registry = Registry(str(home / "registry"), "shop")
    described = registry.verify(registry.live())
    assert described.format_version == FORMATS[home.name] and described.items == 120
    found, known = answers(home / "shop.toml"), json.loads((home / "answers.json").read_text())
    assert found.keys() == known.keys()
    for name, expected in known.items():
        assert [item for item, _ in found[name]] == [item for item, _ in expected], name
        assert [score for _, score in found[name]] == pytest.approx(
            [score for _, score in expected], abs=1e-4
        ), name


def test_the_ranker_of_a_frozen_version_is_used():
    """A feature that a later release drops or renames is noticed here."""
    version = Version.open(load(HERE / "artifact_v2" / "shop.toml"))
    assert version.warnings == [] and version.ranker is not None
    assert set(version.ranker.names) <= set(version.ranking_features.names(version.ranker.sources))
