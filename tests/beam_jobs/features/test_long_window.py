"""No more users in shards that are worked on together than 63 bits can tell apart."""

from datetime import date

import pytest

from beam_jobs.day_plan import Plan
from beam_jobs.features import read_steps, table_steps
from beam_jobs.features.read_steps import Pack, PackPart
from beam_jobs.ingest import columns
from beam_jobs.ingest.day_files import Inputs, SourceFile
from beam_jobs.point_in_time.job import MOST_HELD_OUT, ExampleFiles, FeatureJob, LateEvents
from tests.tiny_pipeline import tiny_pipeline

BIRTH, DAY = date(1, 1, 2), date(2017, 11, 8)
USERS = 240  # times the 6e16 microseconds of that window: more than 63 bits


@pytest.fixture
def job(tmp_path):
    """A day whose window is as long as the calendar."""
    window = (DAY - BIRTH).days
    ids = {"user": {"kind": "id", "tower": "query"}, "item": {"kind": "id", "tower": "item"}}
    features = ids | {"history": {"kind": "history", "length": 3}}
    tables = {"window": {"history_days": window}, "beam": {"shards": 2}}
    p = tiny_pipeline(features=features, **tables)
    days = {"first": BIRTH, "examples": (DAY,), "counted_from": DAY, "measured": (DAY,)}
    plan = Plan(day=DAY, evaluation=(), analysis=(), **days)
    inputs = Inputs(events={}, later={}, items={}, users={}, items_of={}, users_of={})
    late = LateEvents({}, 0, "", "", {})
    files = {"example_files": {DAY: ExampleFiles(24, 1)}, "user_files": 1, "out": str(tmp_path)}
    read = {"columns": columns.of_tables(p), "inputs": inputs, "late": late}
    return FeatureJob(p=p, plan=plan, most_held_out=MOST_HELD_OUT, **files, **read)


def test_shards_of_a_long_window_are_worked_on_apart(job, tmp_path):
    shards = {}
    for n, day in enumerate((BIRTH, DAY)):
        rows = [f"u{user},then{n},{day}T12:00:00Z\n" for user in range(USERS)]
        file = tmp_path / f"{n}.csv"
        file.write_text("user,item,time\n" + "".join(rows))
        pack = Pack((SourceFile("events", day, str(file), file.name, 0, None),), n)
        read = read_steps.Read(job).process([PackPart(pack, 0, 1)])
        for number, batch in (out.value for out in read if out.tag == read_steps.RECORDS):
            shards.setdefault(number, []).append(batch)
    assert len(shards) == 2
    work = table_steps.Work(job)
    work.start_bundle()
    actual = [out for shard in shards.items() for out in work.process(shard)]
    made = [out.value for out in actual if out.tag == table_steps.EXAMPLES]
    made += [out.value.value for out in work.finish_bundle() if out.tag == table_steps.EXAMPLES]
    histories = [row for _, batch in made for row in batch["history"].to_pylist()]
    assert len(made) == 2 and histories == [["then0"]] * USERS
