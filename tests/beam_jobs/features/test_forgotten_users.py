from datetime import timedelta

import pytest

from beam_jobs.features_stage import write_raw, write_served
from beam_jobs.transform import analysis
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.test_event_partials import context, kept
from tests.beam_jobs.features.test_raw_features_job import digests
from tests.traces import holders
from twinspire_core.contracts import forgotten_users
from twinspire_core.contracts.forgotten_users import WITHHELD

GONE = 3
"""A user with many events, as `_event` of the world draws them."""


def made(world, name, *, reuse, day=worlds.DAY, served=False):
    """The job's output, by file; but for the report, which counts what the logs had."""
    out = world.folder / name
    given = context(world, out, reuse=reuse, day=day)
    if served:
        write_served(given)
    else:
        write_raw(
            given, lambda rows: analysis.write_summary(rows.analysis, world.pipeline, str(out))
        )
    return digests(out, "report.json")


def without_user(folder):
    """The same logs, had the user never been there."""
    world = worlds.make(folder, 9)
    for rows in (*world.events.values(), *world.users.values()):
        rows[:] = [row for row in rows if row.get("who", row.get("id")) != GONE]
    worlds.write(world, "parquet")
    return world


@pytest.fixture
def forgetting(tmp_path):
    world = worlds.make(tmp_path / "world", 9)
    some = [row for rows in world.events.values() for row in rows if row["who"] == GONE]
    assert len(some) > 10 and any(row["id"] == GONE for row in world.users[worlds.FIRST])
    return world


@pytest.mark.parametrize("reuse", [False, True], ids=["of logs", "of partials"])
@pytest.mark.parametrize("served", [False, True], ids=["a day", "a catalogue"])
def test_everything_is_as_if_the_logs_never_had_them(forgetting, tmp_path, reuse, served):
    if reuse:  # what a run keeps that began before somebody was forgotten
        made(forgetting, "before", reuse=True, day=worlds.DAY - timedelta(days=1))
        assert kept(forgetting)
    forgotten_users.add(forgetting.pipeline, [str(GONE)])
    found = made(forgetting, "found", reuse=reuse, served=served)
    never = without_user(tmp_path / "never")
    expected = made(never, "found", reuse=False, served=served)
    # Places in the logs are others, and the counters say how many records there were
    assert len(found) > 3 and found == expected


def test_partials_that_are_made_from_then_on_are_without_them(tmp_path):
    world = worlds.make(tmp_path, 9)
    # An id that can be searched for; the column is text then
    for rows in world.events.values():
        rows[:] = [dict(row, who=987654321 if row["who"] == GONE else row["who"]) for row in rows]
    worlds.write(world, "parquet")
    made(world, "before", reuse=True)
    assert holders(tmp_path / "partials", "987654321")
    for file in kept(world):
        file.unlink()
    forgotten_users.add(world.pipeline, ["987654321"])
    made(world, "after", reuse=True)
    assert kept(world) and not holders(tmp_path / "partials", "987654321")
    assert not holders(tmp_path / "after", "987654321")


def test_a_line_that_cannot_be_read_is_not_written_down(tmp_path):
    world = worlds.make(tmp_path, 9)
    world.settings["source"] = "max_rejected = 0.5"
    worlds.write(world, "jsonl")
    (tmp_path / f"events/dt={worlds.DAY}/z.jsonl").write_text('{"who": "secret-id", broken\n')
    made(world, "before", reuse=False)
    assert holders(tmp_path / "before", "secret-id") == ["rejected/records.jsonl"]
    forgotten_users.add(world.pipeline, ["anybody"])
    made(world, "after", reuse=True)
    assert not holders(tmp_path / "after", "secret-id")
    assert not holders(tmp_path / "partials", "secret-id")
    assert WITHHELD in (tmp_path / "after/rejected/records.jsonl").read_text()
