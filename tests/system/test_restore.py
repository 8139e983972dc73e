"""A disk is lost: working files, or the registry with and without a copy; what docs/operations.md says of it."""

import shutil
from pathlib import Path

import pytest

from serving.http.server_settings import Settings
from tests.serving.http.conftest import answering
from tests.system.days import FIRST, SECOND, THIRD, registry_of, twinspire
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import forgotten_users

pytestmark = pytest.mark.system


def answers(pipeline: Path) -> str:
    """The day of the version that a new server answers from."""
    with answering(load(pipeline), Settings()) as client:
        answer = client.post("/v1/recommend", json={"query": {"user": "u000"}, "k": 5}).json()
        assert len(answer["items"]) == 5
        return client.get("/v1/version").json()["day"]


def days(pipeline: Path) -> list[tuple[str, str | None]]:
    """Each version's day and that of its parent, in the order of publication."""
    registry = registry_of(pipeline)
    manifests = [registry.manifest(entry.version) for entry in registry.log() if entry.live]
    return [(str(one.date), one.parent and one.parent[:10]) for one in manifests]


def test_without_working_files_the_next_day_is_trained_from_scratch(shop):
    shutil.rmtree(shop.parent / "work")
    assert answers(shop) == SECOND
    [failed] = twinspire("run", str(shop), "--date", THIRD, check=2)["days"]
    assert "--mode full" in failed["reason"]
    twinspire("run", str(shop), "--date", THIRD, "--mode", "full")
    assert answers(shop) == THIRD
    assert days(shop) == [(FIRST, None), (SECOND, FIRST), (THIRD, None)]


def test_a_registry_comes_back_from_its_copy_and_goes_on(shop, tmp_path):
    twinspire("forget", str(shop), "--user", "u001", "--yes")
    registry, copy = shop.parent / "registry/shop", tmp_path / "copy"
    for name in ("log", "versions", "forgotten"):
        shutil.copytree(registry / name, copy / name)
    twinspire("run", str(shop), "--date", THIRD)
    shutil.rmtree(shop.parent / "registry")
    shutil.copytree(copy, registry)
    assert answers(shop) == SECOND
    assert "u001" in forgotten_users.find(load(shop)), "who was forgotten stays so"
    twinspire("run", str(shop), "--date", THIRD)
    assert answers(shop) == THIRD
    assert days(shop) == [(FIRST, None), (SECOND, FIRST), (THIRD, SECOND)]


def test_recovery_when_only_the_registry_has_a_copy(shop, tmp_path):
    registry, copy = shop.parent / "registry/shop", tmp_path / "copy"
    shutil.copytree(registry, copy)
    for lost in (registry, shop.parent / "work"):
        shutil.rmtree(lost)
    shutil.copytree(copy, registry)
    assert answers(shop) == SECOND
    twinspire("run", str(shop), "--date", THIRD, "--mode", "full")
    assert answers(shop) == THIRD
    assert days(shop) == [(FIRST, None), (SECOND, FIRST), (THIRD, None)]


def test_recovery_without_old_logs(shop):
    for day in (FIRST, SECOND):
        shutil.rmtree(shop.parent / f"events/dt={day}")
    assert answers(shop) == SECOND
    twinspire("run", str(shop), "--date", THIRD)
    assert days(shop) == [(FIRST, None), (SECOND, FIRST), (THIRD, SECOND)]


def test_without_a_copy_the_newest_day_is_made_again(shop):
    shutil.rmtree(shop.parent / "registry")
    twinspire("run", str(shop), "--date", SECOND)
    assert answers(shop) == SECOND
    assert days(shop) == [(SECOND, None)]
