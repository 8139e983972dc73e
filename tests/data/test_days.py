"""Days that earlier code made are gone on from: the next day has the same parent."""

import json
import tarfile
from pathlib import Path

import pytest

from index_builder.registry.registry import Registry
from tests.data.freeze_days import DAYS, LAST
from twinspire.runs import runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import STAGES
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.validation_errors import REMOVED

PACKED = sorted(Path(__file__).parent.glob("days_*.tar.gz"))


@pytest.fixture(scope="module", params=PACKED, ids=lambda path: path.name.removesuffix(".tar.gz"))
def shop(request, tmp_path_factory):
    """The pipeline of three days that an earlier release ran, in the folder that it ran in."""
    home = tmp_path_factory.mktemp("days")
    with tarfile.open(request.param) as packed:
        packed.extractall(home, filter="data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        tables = json.loads((home / "pipeline.json").read_text())
        for key in REMOVED:
            _drop(tables, key.split("."))
        yield Pipeline.model_validate(tables)


def _drop(table, path):
    """Takes a key out of nested tables."""
    for name in path[:-1]:
        table = table[name]
    del table[path[-1]]


def test_there_are_such_days():
    assert PACKED


def test_the_next_day_starts_from_the_last_one(shop):
    registry = Registry(shop.registry.root, shop.name)
    before = registry.live()
    run = DayRun(shop, LAST)
    for name in STAGES:
        assert runner.run_stage(run, name)["status"] == "done", name
    made = registry.manifest(registry.live())
    assert (
        before.startswith(str(DAYS[-2])) and str(made.date) == str(LAST) and made.parent == before
    )
    assert registry.verify(made.version)


def test_their_reports_open(shop):
    registry = Registry(shop.registry.root, shop.name)
    for version in registry.accepted():
        page = (Path(registry.root) / shop.name / "versions" / version / "report.html").read_text()
        assert version in page
