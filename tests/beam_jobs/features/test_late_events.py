"""Events that come late, in folders of later days: the day is as if they had come in time."""

from collections import Counter
from datetime import timedelta
from random import Random

import apache_beam as beam
import pytest

from beam_jobs.features_stage import write_raw
from beam_jobs.ingest import day_files
from beam_jobs.point_in_time.job import find_late_events, plan_job
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.test_raw_features_job import digests, keep, rows, same
from twinspire.runs import stage_tasks
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt

DAY = worlds.DAY
HALF = DAY + timedelta(days=3)
"""Day of a folder that is half written when the day is run."""


def late_events(p):
    """The day's late events."""
    return find_late_events(p, DAY, day_files.later_files(p, DAY))


def on(day):
    """A time in the middle of a day."""
    noon = worlds.datetime(day.year, day.month, day.day, 17, tzinfo=worlds.UTC)
    return round(noon.timestamp() * 1000)


def delay(world, most, share=0.3):
    """Moves events into folders of later days, none that has a copy: of copies the first stays."""

    def key(row):
        return row["who"], row["what"], row["at"], row["kind"]

    draw, moved, later = Random(1), Counter(), {}
    seen = Counter(key(row) for came in world.events.values() for row in came)
    for day, came in world.events.items():
        for row in list(came):
            if seen[key(row)] == 1 and draw.random() < share:
                to = day + timedelta(days=draw.randint(1, most))
                later.setdefault(to, []).append(row)
                came.remove(row)
                moved[day, to] += 1
    for to, came in later.items():
        world.events.setdefault(to, []).extend(came)
    return moved


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """What the job makes of a world, and of the same with late events, and others of no use."""
    folder = tmp_path_factory.mktemp("late")
    world = worlds.make(folder, 9)

    def run(name):
        to = str(folder / f"rows {name}")
        context = world.context(folder / name, mode="full")
        return write_raw(context, lambda rows: rows.analysis | beam.Map(keep, to))

    run("in time")
    moved = delay(world, most=2)
    tomorrow = DAY + timedelta(days=1)
    some = dict(world.events[DAY][0], kind="buy")
    times = on(DAY - timedelta(days=4)), on(tomorrow), on(tomorrow) + 1
    world.events[DAY] += [dict(some, at=at) for at in times]
    times = on(tomorrow), on(tomorrow - timedelta(days=4))
    world.events[tomorrow] += [dict(some, at=at) for at in times]
    world.settings["source"] = "late_days = 3"
    world.events[HALF] = [dict(some, who=59, at=on(DAY)), dict(some, at=on(HALF))]
    worlds.write(world, "parquet")
    file = world.folder / f"events/dt={HALF}/part-1.parquet"
    file.write_bytes(file.read_bytes()[:-99])  # what is still being copied
    return world, moved, folder, run("late").model_dump(mode="json")


def test_the_bytes_are_those_of_logs_in_time(late):
    _, _, folder, _ = late
    assert digests(folder / "late", "report.json") == digests(folder / "in time", "report.json")
    for tower in ("query", "item"):  # what the transform graph is fitted on
        same(*(rows(folder / name / tower) for name in ("rows late", "rows in time")), str)


def test_they_are_counted(late):
    world, moved, _, report = late
    n = sum(n for (day, _), n in moved.items() if day == DAY)
    earlier = sum(n for (_, to), n in moved.items() if to == DAY) + 1
    counted = {"of_earlier_days": earlier, "of_later_days": 2, "stragglers": n, "left_out": 3}
    assert report["late"] == counted | {"digest": late_events(world.pipeline).digest}
    assert n > 5 and report["rows"] == len(world.events[DAY]) and report["rejected"] == {}


def test_a_day_that_was_run_stays_done_when_more_come(late):
    """The last test of the module: it adds to the logs."""
    world, _, _, report = late
    p, key = world.pipeline, day_files.fingerprint(world.pipeline, DAY, "full")
    uri = attempts.begin(p, DAY, "features")
    keys = {"key": "", "config": "", "output": "", "parent": None}
    attempts.commit(Attempt(uri=uri, mode="full", inputs={}, summary=report, **keys))
    assert stage_tasks.late_events(p, DAY) == 0, "one folder cannot be read"
    half = world.events.pop(HALF)
    world.events[HALF] = half[1:]
    worlds.write(world, "parquet")
    assert stage_tasks.late_events(p, DAY) == 0
    day, other = DAY + timedelta(days=2), DAY - timedelta(days=1)
    some = world.events[DAY][0]
    world.events[day] += [dict(some, at=on(day)), dict(some, at=on(other))]
    worlds.write(world, "jsonl")
    assert stage_tasks.late_events(p, DAY) == 0, (
        "in other files and another format they are the same"
    )
    world.events[HALF] = half
    worlds.write(world, "jsonl")
    assert stage_tasks.late_events(p, DAY) == report["late"]["stragglers"] + 1
    days = [
        {name.split("/")[1] for name in k} for k in (key, day_files.fingerprint(p, DAY, "full"))
    ]
    assert days[0] == days[1], "files of later days are in no key"


def test_a_later_day_that_is_not_complete_is_not_looked_into(tmp_path):
    world = worlds.make(tmp_path, 9, source='late_days = 1\ndone_marker = "_SUCCESS"')
    later = DAY + timedelta(days=1)
    world.events = {later: [dict(world.events[DAY][0], at=on(DAY))]}
    worlds.write(world, "parquet")
    assert late_events(world.pipeline).events == 0
    assert not plan_job(world.context(tmp_path / "out")).late.files
    (tmp_path / "events" / f"dt={later}" / "_SUCCESS").touch()
    assert late_events(world.pipeline).events == 1
    assert list(plan_job(world.context(tmp_path / "out")).late.files) == [later]
