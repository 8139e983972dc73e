"""No step of the features job gets all data by one key, which one worker would then hold."""

from collections import Counter, defaultdict

import apache_beam as beam
import pyarrow as pa

from beam_jobs.beam import batches
from beam_jobs.features_stage import write_raw
from tests.beam_jobs.features import world as worlds

ROWS: dict[str, Counter] = defaultdict(Counter)
"""Rows of each key, by the step that groups."""
SMALL = {
    "Hashes by day": "of each day and shard, at most so many hashes as users are held out",
    "Counters together": "numbers, some for each part of a file",
    "Rejected together": "the first malformed records of each file",
    "Parts": "rows of items that are added up already; every worker looks them up",
}
"""Steps with a key for all, and why they may have one."""
GroupByKey = beam.GroupByKey


def _count(element, step):
    key, rows = element
    values = list(rows)
    for value in values:
        is_batch = isinstance(value, pa.RecordBatch)
        ROWS[step][key] += batches.restore(value).num_rows if is_batch else 1
    return key, values


class Counted(beam.PTransform):
    """Groups as Beam does, and notes how many rows each key has."""

    def default_label(self):
        return "GroupByKey"

    def expand(self, pairs):
        step = pairs.pipeline._current_transform().full_label.removeprefix("Raw features/")
        return pairs | "As ever" >> GroupByKey() | "Count rows" >> beam.Map(_count, step)


def test_no_step_has_one_key_for_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "GroupByKey", Counted)
    use = 'use = ["two_tower", "history", "co_occurrence"]'
    world = worlds.make(tmp_path, 9, sources=use, shards="16")
    ROWS.clear()
    write_raw(world.context(tmp_path / "out", mode="full"), lambda rows: None)
    large = {step: rows for step, rows in ROWS.items() if step not in SMALL}
    # This world has no record that is rejected.
    assert len(large) >= 5 and ROWS.keys() >= SMALL.keys() - {"Rejected together"}
    for step, rows in large.items():
        assert len(rows) >= 3, f"{step} has the keys {list(rows)}"
        assert max(rows.values()) < 0.6 * sum(rows.values()), step
