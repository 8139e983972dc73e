"""Events that come late, in folders of later days: the day is made as if they had come in time, and
no other day is.
"""

from collections import Counter
from datetime import timedelta
from random import Random

import apache_beam as beam
import pytest

from beam_jobs.features.raw_features_job import write_raw
from beam_jobs.ingest import day_files
from beam_jobs.ingest.late_events import look
from beam_jobs.point_in_time.job import plan_job
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.test_raw_features_job import digests, keep, rows, same
from twinspire.cli import doctor
from twinspire.runs.stage_tasks import unread_events
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.errors import BadData

DAY = worlds.DAY
HALF = DAY + timedelta(days=3)
"""Day of a folder that is half written when the day is run."""
ROWS = ("late rows", "rows in time")


def on(day):
    """A time in the middle of a day."""
    return round(
        worlds.datetime(day.year, day.month, day.day, 17, tzinfo=worlds.UTC).timestamp() * 1000
    )


def delay(world, most, share=0.3):
    """Moves some events into folders of later days, but none that has a copy: of copies the first
    in the logs stays.
    """
    draw, moved = Random(1), Counter()
    seen = Counter(
        (r["who"], r["what"], r["at"], r["kind"]) for came in world.events.values() for r in came
    )
    later = {}
    for day, came in world.events.items():
        for row in list(came):
            if seen[row["who"], row["what"], row["at"], row["kind"]] == 1 and draw.random() < share:
                to = day + timedelta(days=draw.randint(1, most))
                later.setdefault(to, []).append(row)
                came.remove(row)
                moved[day, to] += 1
    for to, came in later.items():
        world.events.setdefault(to, []).extend(came)
    return moved


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """What the job makes of a world, and of the same with late events, and others that are of no
    use.
    """
    folder = tmp_path_factory.mktemp("late")
    world = worlds.make(folder, 9)
    rows_to = {
        name: lambda rows, to=str(folder / name): rows.analysis | beam.Map(keep, to)
        for name in ROWS
    }
    write_raw(world.context(folder / "in time", mode="full"), rows_to["rows in time"])
    moved = delay(world, most=2)
    tomorrow = DAY + timedelta(days=1)
    some = dict(world.events[DAY][0], kind="buy")
    world.events[DAY] += [
        dict(some, at=on(DAY - timedelta(days=4))),
        dict(some, at=on(tomorrow)),
        dict(some, at=on(tomorrow) + 1),
    ]
    world.events[tomorrow] += [
        dict(some, at=on(tomorrow)),
        dict(some, at=on(tomorrow - timedelta(days=4))),
    ]
    world.settings["source"] = "late_days = 3"
    world.events[HALF] = [dict(some, who=59, at=on(DAY)), dict(some, at=on(HALF))]
    worlds.write(world, "parquet")
    file = world.folder / f"events/dt={HALF}/part-1.parquet"
    file.write_bytes(file.read_bytes()[:-99])  # what is still being copied
    report = write_raw(
        world.context(folder / "late", mode="full"), rows_to["late rows"]
    ).model_dump(mode="json")
    return world, moved, folder, report


def test_the_bytes_are_those_of_logs_in_time(late):
    _, _, folder, _ = late
    assert digests(folder / "late", "report.json") == digests(folder / "in time", "report.json")
    for tower in ("query", "item"):  # what the transform graph is fitted on
        same(*(rows(folder / name / tower) for name in ROWS), str)


def test_they_are_counted(late):
    world, moved, _, report = late
    assert report["late"] == {
        "of_earlier_days": sum(n for (day, to), n in moved.items() if to == DAY) + 1,
        "of_later_days": 2,
        "left_out": 3,
        "left_out_of_other_days": 0,
        "stragglers": (n := sum(n for (day, _), n in moved.items() if day == DAY)),
        "digest": look(world.pipeline, DAY).digest,
    }
    assert n > 5 and report["rows"] == len(world.events[DAY]) and report["rejected"] == {}


def test_a_day_that_was_run_stays_done_and_is_named_when_more_come(late, monkeypatch):
    """The last test of the module: it adds to the logs."""
    world, _, _, report = late
    p, key = world.pipeline, day_files.fingerprint(world.pipeline, DAY, "full")
    uri = attempts.begin(p, DAY, "features")
    done = Attempt(
        uri=uri, key="", config="", output="", mode="full", parent=None, inputs={}, summary=report
    )
    attempts.commit(done)
    with pytest.raises(BadData, match=f"dt={HALF}/part-1"):
        unread_events(p, DAY)
    half = world.events.pop(HALF)
    world.events[HALF] = half[1:]
    worlds.write(world, "parquet")
    assert unread_events(p, DAY) == 0
    day, other = DAY + timedelta(days=2), DAY - timedelta(days=1)
    some = world.events[DAY][0]
    world.events[day] += [dict(some, at=on(day)), dict(some, at=on(other))]
    worlds.write(world, "jsonl")
    assert unread_events(p, DAY) == 0, (
        "they lie in other files and another format, and are the same"
    )
    world.events[HALF] = half
    worlds.write(world, "jsonl")
    assert unread_events(p, DAY) == report["late"]["stragglers"] + 1
    assert {name.split("/")[1] for name in key} == {
        name.split("/")[1] for name in day_files.fingerprint(p, DAY, "full")
    }, "files of later days are in no key"
    monkeypatch.setattr(doctor, "IMPORTS", {})
    check = next(check for check in doctor.examine(p) if check.group == "day")
    assert (check.name, check.state) == (
        str(DAY),
        "warning",
    ) and f"--date {DAY} --late" in check.remedy


def test_a_later_day_that_is_not_complete_is_not_looked_into(tmp_path):
    world = worlds.make(tmp_path, 9, source='late_days = 1\ndone_marker = "_SUCCESS"')
    later = DAY + timedelta(days=1)
    world.events = {later: [dict(world.events[DAY][0], at=on(DAY))]}
    worlds.write(world, "parquet")
    assert (
        look(world.pipeline, DAY).events == 0
        and not plan_job(world.context(tmp_path / "out")).late.files
    )
    (tmp_path / "events" / f"dt={later}" / "_SUCCESS").touch()
    assert look(world.pipeline, DAY).events == 1
    assert list(plan_job(world.context(tmp_path / "out")).late.files) == [later]
