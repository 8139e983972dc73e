import random
import shutil
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from beam_jobs.beam import batches
from beam_jobs.features import partials, read_steps
from beam_jobs.features.report import Count
from beam_jobs.features_stage import write_raw
from beam_jobs.ingest import day_files, records
from beam_jobs.point_in_time.job import plan_job
from beam_jobs.transform import analysis
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.test_raw_features_job import digests
from twinspire_core import storage
from twinspire_core.contracts.attempts import Reuse
from twinspire_core.records.record_file import RecordFile

DAY = worlds.DAY
SOURCE = "late_days = {}\nmax_user_events = 9\nmax_rejected = 0.5"


def context(world, out, *, reuse, day=DAY, mode="incremental"):
    """What the stage is given."""
    made = world.context(out, mode=mode, day=day)
    if not reuse:
        return made
    files = day_files.fingerprint(world.pipeline, day, mode)
    return replace(made, reuse=Reuse(partials=str(world.folder / "partials"), digests=files))


def kept(world):
    return sorted((world.folder / "partials").rglob("*.arrow"))


def odd_world(folder, seed):
    """A world with malformed, misplaced and very many events."""
    world = worlds.make(folder, seed)
    world.settings["source"] = SOURCE.format(2)
    for day, rows in world.events.items():
        some = rows[0]
        rows += [dict(some, what=None), dict(some, at=some["at"] + 86_400_000)]
        rows += [dict(some, who=7, at=some["at"] - 86_400_000 * before) for before in range(4)]
        rows += [dict(some, who=99, at=some["at"] + n) for n in range(day.day)]
    worlds.write(world, "parquet")
    return world


@pytest.fixture
def opened(monkeypatch):
    """The names of the days whose logs are opened."""
    days = []
    opens = RecordFile.__init__

    def noting(self, uri, *arguments):
        folder = Path(uri).parent
        if folder.parent.name == "events":
            days.append(folder.name)
        opens(self, uri, *arguments)

    monkeypatch.setattr(RecordFile, "__init__", noting)
    return days


def write(world, out, **how):
    """Runs the job; digests of all that it writes."""
    made = context(world, out, **how)

    def look(rows):
        analysis.write_summary(rows.analysis, world.pipeline, str(out))

    write_raw(made, look).write(str(out))
    return digests(out)


def test_a_day_opens_its_own_logs_alone_and_the_job_writes_the_same_bytes(tmp_path, opened):
    world = worlds.make(tmp_path / "world", 9)

    def run(name, day=DAY, *, reuse=True):
        return write(world, tmp_path / name, reuse=reuse, day=day)

    run("before", DAY - timedelta(days=1))
    assert len(set(opened)) > 5, "nothing was kept yet"
    opened.clear()
    next_day = run("day")
    assert set(opened) == {f"dt={DAY}"}
    opened.clear()
    again = read(context(world, tmp_path / "again", reuse=True))
    assert not opened
    raw = run("raw", reuse=False)
    assert len(set(opened)) > 5
    assert next_day == raw and len(raw) > 10 and "summary.arrow" in raw
    assert again == read(context(world, tmp_path / "again", reuse=False))


STEPS = ("nothing", "row", "form", "late", "types", "column", "limit")
DAMAGE = ("delete", "truncate", "flip", "empty")


# A failure tells its steps: nothing is made smaller.
ONCE = {"deadline": None, "derandomize": True, "phases": [Phase.generate]}


@settings(max_examples=2, suppress_health_check=list(HealthCheck), **ONCE)
@given(st.integers(0, 9), st.lists(st.sampled_from(STEPS + DAMAGE), min_size=2, max_size=3))
def test_what_is_read_is_the_same_whatever_happens(tmp_path_factory, seed, steps):
    draw = random.Random(seed)
    world = odd_world(tmp_path_factory.mktemp("world"), seed)
    for step in ["nothing", *steps]:
        change(world, step, draw)
        day = DAY - timedelta(days=draw.randint(0, 2))
        mode = draw.choice(["incremental", "full"])
        how = {"day": day, "mode": mode}
        actual = [read(context(world, world.folder / "out", reuse=x, **how)) for x in (True, False)]
        assert actual[0] == actual[1], (step, how)
        assert kept(world)


def read(made):
    """What the job reads: records by table and shard, counts, rejected records."""
    job = plan_job(made)
    groups = read_steps.plan_packs(job)
    parts = [part for group in groups for part in read_steps.cut(group, job.p.source.format)]
    rows, counts, rejected = {}, Counter(), []
    for found in (found for some in parts for found in read_steps.Read(job).process(some)):
        match found.tag:
            case read_steps.RECORDS:
                shard, batch = found.value
                frame = batches.to_frame([batch])
                rows.setdefault((shard, tuple(frame.columns)), []).append(frame)
            case read_steps.COUNTS:
                assert isinstance(found.value, Count)
                counts[found.value[:-1]] += found.value.n
            case _:
                rejected.append(found.value)
    rows = {key: pl.concat(frames).sort("_order") for key, frames in rows.items()}
    rows = {key: frame.to_dict(as_series=False) for key, frame in rows.items()}
    return str(rows), counts, sorted(rejected)


def change(world, step, draw):
    """Does something that partials have to bear."""
    match step:
        case "row":
            rows = world.events[draw.choice(sorted(world.events))]
            rows.append(dict(rows[0], who=draw.randint(0, 9)))
            worlds.write(world, "parquet")
        case "form":
            worlds.write(world, draw.choice(["csv", "jsonl"]))
        case "late":
            world.settings["source"] = SOURCE.format(draw.randint(0, 3))
        case "limit":
            world.settings["source"] = SOURCE.format(2).replace("9", str(draw.randint(1, 20)))
        case "types":
            world.settings["positives"] = '"gift", "scroll"'
        case "column":
            world.settings["basket"] = "weight"
        case "nothing":
            pass
        case _:
            files = kept(world)
            for file in draw.sample(files, len(files) // 2):
                damage(file, step)


def damage(file, how):
    content = bytearray(file.read_bytes())
    match how:
        case "delete":
            file.unlink()
            return
        case "truncate":
            content = content[:-9]
        case "flip":
            content[len(content) // 2] ^= 1
        case "empty":
            content.clear()
    file.write_bytes(content)


def test_what_is_damaged_is_made_again(tmp_path):
    world = odd_world(tmp_path, 3)
    read(context(world, tmp_path / "out", reuse=True))
    whole = {file: file.read_bytes() for file in kept(world)}
    for file, how in zip(whole, DAMAGE * len(whole), strict=False):
        damage(file, how)
    read(context(world, tmp_path / "out", reuse=True))
    assert {file: file.read_bytes() for file in kept(world)} == whole


def test_logs_that_change_while_they_are_read_leave_nothing(tmp_path):
    world = odd_world(tmp_path, 3)
    made = context(world, tmp_path / "out", reuse=True)
    day = DAY - timedelta(days=3)
    world.events[day].append(world.events[day][0])
    worlds.write(world, "parquet")  # after the digests were taken
    other = DAY - timedelta(days=2)
    folder = world.folder / f"events/dt={other}"
    shutil.copy(folder / "part-0.parquet", folder / "part-2.parquet")
    read(made)
    days = {file.parent.name for file in kept(world)}
    assert not days & {f"dt={day}", f"dt={other}"} and f"dt={DAY}" in days


def test_what_was_read_in_other_blocks_comes_to_the_same(tmp_path, opened, monkeypatch):
    world = odd_world(tmp_path / "world", 3)
    made = context(world, tmp_path / "out", reuse=True)
    raw = replace(made, reuse=None)
    with monkeypatch.context() as patch:
        patch.setattr(records, "BLOCK_ROWS", 5)
        read(made)
    assert read(made) != read(raw), "each block drops what it knows to be beyond the limit"

    def written(made, name):
        out = str(tmp_path / name)
        write_raw(replace(made, out=out), lambda rows: None).write(out)
        return digests(tmp_path / name)

    opened.clear()
    taken_up = written(made, "again")
    assert not opened
    assert taken_up == written(raw, "raw")


def one_large_file(world):
    """The day's logs as one file that is read by four parts."""
    files = sorted((world.folder / f"events/dt={DAY}").glob("*.parquet"))
    rows = pl.concat(map(pl.read_parquet, files))
    files.pop().unlink()
    rows.write_parquet(files[0], row_group_size=len(rows) // 4 + 1)
    return files[0], rows


def test_of_a_file_that_changes_between_two_parts_the_first_is_kept(tmp_path):
    world = odd_world(tmp_path, 3)
    large, rows = one_large_file(world)
    job = plan_job(context(world, tmp_path / "out", reuse=True))
    groups = read_steps.plan_packs(job)
    [pack] = [pack for group in groups for pack in group if pack.files[0].uri == str(large)]
    first, second, *_ = read_steps.cut([pack], job.p.source.format)
    list(read_steps.Read(job).process(first))
    rows.reverse().write_parquet(large, row_group_size=len(rows) // 4 + 1)
    list(read_steps.Read(job).process(second))
    [only] = kept(world)
    assert only.name.endswith("-0-of-4.arrow")


def test_an_object_store_keeps_them_too(tmp_path, remote_place, opened):
    world = worlds.make(tmp_path, 3)
    for table in ("events", "items", "users"):
        storage.upload_tree(world.folder / table, f"{remote_place}/{table}")
    world.settings["root"] = f"{remote_place}/"
    made = context(world, f"{remote_place}/out", reuse=True)
    made = replace(made, reuse=replace(made.reuse, partials=f"{remote_place}/partials"))
    first = read(made)
    assert len(set(opened)) > 5
    opened.clear()
    assert read(made) == first and not opened


def test_a_partial_has_what_it_depends_on_in_its_name_and_nothing_else(tmp_path):
    world = odd_world(tmp_path, 3)

    def stems(**settings):
        world.settings |= settings
        job = plan_job(context(world, tmp_path / "out", reuse=True))
        return [pack.stem for group in read_steps.plan_packs(job) for pack in group if pack.stem]

    seen = set(stems())
    assert set(stems(window="personal_days = 3", sources='use = ["history"]')) == seen
    limit = SOURCE.format(1).replace("9", "8")
    for change in (
        {"positives": '"gift", "scroll"'},
        {"basket": "weight"},
        {"source": SOURCE.format(1)},
        {"source": limit},
        {"zone": "Asia/Tokyo"},
    ):
        actual = set(stems(**change))
        assert not actual & seen, change
        seen |= actual
    assert partials.whole_partials(str(world.folder / "partials")) == {}, "planning writes nothing"
