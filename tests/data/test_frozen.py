import json

import pytest

from index_builder.registry.registry import Registry
from serving.requests.query_rows import Requests
from serving.version.loaded_version import Version
from tests.data.freeze import HERE, answers
from tests.serving.asking import recommend
from twinspire_core.config.pipeline import load
from twinspire_core.contracts.version_manifest import FORMAT_VERSION

FROZEN = HERE / "artifact_format_2"


def test_a_frozen_version_is_whole_and_answers_as_it_did():
    registry = Registry(str(FROZEN / "registry"), "shop")
    described = registry.verify(registry.live())
    assert described.format_version == FORMAT_VERSION and described.items == 120
    known = json.loads((FROZEN / "answers.json").read_text())
    lists = answers(FROZEN / "shop.toml")
    assert lists.keys() == known.keys()
    for name, expected in known.items():
        assert [item for item, _ in lists[name]] == [item for item, _ in expected], name
        assert [score for _, score in lists[name]] == pytest.approx(
            [score for _, score in expected], abs=1e-4
        ), name


def test_the_ranker_of_a_frozen_version_is_used():
    """A feature that a later release drops or renames is noticed here."""
    version = Version.open(load(FROZEN / "shop.toml"))
    assert version.warnings == [] and version.ranker is not None
    assert set(version.ranker.names) <= set(version.ranking_features.names(version.ranker.sources))


@pytest.mark.parametrize("asked", [{"user": "u001"}, {"history": ["i021", "i022"]}, {}])
def test_a_filter_that_nothing_passes_has_empty_lists(asked):
    version = Version.open(load(FROZEN / "shop.toml"))
    table = Requests(version.pipeline).table([asked])
    for source in (None, *version.sources):
        answer = recommend(version, table, 5, source=source, allow={"kind": ["no such kind"]})
        assert answer.counts.tolist() == [0], source
