"""Large batches travel by file: the same output, also when bundles are tried again, and nothing of
it is left.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.beam import batches, engine
from beam_jobs.features.table_steps import FinishQueries
from beam_jobs.features_stage import write_raw, write_served
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.test_raw_features_job import digests
from twinspire_core.errors import BadData


@pytest.fixture
def watched(monkeypatch):
    """How many files there were, by name of the output, when they were cleared."""
    found, clear = {}, batches.clear_spilled

    def look(out):
        found[Path(out).name] = len(list(Path(out, batches.SPILL_FOLDER).rglob("*")))
        clear(out)

    monkeypatch.setattr(batches, "clear_spilled", look)
    return found


def test_a_day_is_the_same_bytes_by_file_and_when_every_bundle_is_tried_twice(
    tmp_path, monkeypatch, watched
):
    world = worlds.make(tmp_path / "world", 5)
    write_raw(world.context(tmp_path / "usual"), lambda rows: None)
    monkeypatch.setattr(batches, "LARGE", 0)
    monkeypatch.setattr(engine, "FnApiRunner", partial(FnApiRunner, bundle_repeat=1))
    write_raw(world.context(tmp_path / "files"), lambda rows: None)
    write_served(world.context(tmp_path / "catalogue"))
    assert watched["usual"] == 0, "batches of some KB take the fast way"
    assert watched["files"] > 5 and watched["files"] % 2 == 0, "the first try's files are there"
    assert digests(tmp_path / "files") == digests(tmp_path / "usual")
    assert watched["catalogue"] > 0
    catalogue = digests(tmp_path / "catalogue", "report.json")
    assert catalogue.items() <= digests(tmp_path / "usual").items()


def test_a_job_that_fails_leaves_no_such_files_behind(tmp_path, monkeypatch, watched):
    def fail(*_):
        raise BadData("The truth is out there.")

    world = worlds.make(tmp_path / "world", 5)
    monkeypatch.setattr(batches, "LARGE", 0)
    monkeypatch.setattr(FinishQueries, "process", fail)
    with pytest.raises(BadData, match="out there"):
        write_raw(world.context(tmp_path / "out"), lambda rows: None)
    assert watched["out"] > 3 and not (tmp_path / "out" / batches.SPILL_FOLDER).exists()


@pytest.mark.parametrize("rows", [10, 1 << 17, (1 << 17) + 1])
def test_a_batch_above_a_mebibyte_waits_in_a_file_and_is_received_whole(tmp_path, rows):
    batch = pa.RecordBatch.from_pydict({"n": np.arange(rows)})
    travels = batches.spill(batch, str(tmp_path))
    files = list((tmp_path / batches.SPILL_FOLDER).rglob("*.arrow"))
    assert len(files) == (rows > 1 << 17) and (travels is batch or travels.nbytes < 1000)
    assert batches.restore(travels).equals(batch)
    batches.clear_spilled(str(tmp_path))
    assert not list(tmp_path.rglob("*"))
