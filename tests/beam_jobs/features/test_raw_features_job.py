"""The raw features, row for row against slow.py; the same bytes from other formats and runners."""

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs import hashing
from beam_jobs.features import read_steps, table_steps
from beam_jobs.features_stage import write_raw, write_served
from beam_jobs.point_in_time import job
from tests import prism
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.slow import Slow, float32
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import UsageError

DAY = worlds.DAY


def run(world, out, **kwargs):
    kwargs.setdefault("replays", kwargs.get("mode") == "full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "MOST_HELD_OUT", world.most)
        report = write_raw(world.context(out, **kwargs), lambda rows: None)
    report.write(str(out))
    return report.model_dump(mode="json")


def rows(folder):
    """All rows below a folder as dicts, in order of file and row."""
    files = sorted(Path(folder).rglob("*.parquet"))
    read = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files]).to_dicts()
    return [
        {k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in row.items()}
        for row in read
    ]


def digests(folder, *without):
    files = (p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name not in without)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def same(found, expected, key):
    found, expected = sorted(found, key=key), sorted(expected, key=key)
    assert [key(row) for row in found] == [key(row) for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == other


def by_event(row):
    return row["_time"], row["_user"], row["_item"], str(row)


ONE = 9  # seed of the world of `one`
WORLDS = {
    1: {"zone": "America/New_York", "days": ""},
    3: {"zone": "Asia/Tokyo", "unlisted": "true", "days": "days = 1", "most": 2},
}


@pytest.fixture(scope="module", params=WORLDS)
def done(request, tmp_path_factory):
    """A world, its slow image, and what the job made of it with examples of several days."""
    folder = tmp_path_factory.mktemp("world")
    world = worlds.make(folder, request.param, **WORLDS[request.param])
    report = run(world, folder / "out", mode="full")
    return world, Slow(world, DAY), folder / "out", report


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A world, and what the job made of it."""
    folder = tmp_path_factory.mktemp("one")
    world = worlds.make(folder, ONE)
    run(world, folder / "out", mode="full")
    return world, folder / "out"


def test_examples(done):
    _, slow, out, report = done
    for day in (DAY - timedelta(days=2), DAY - timedelta(days=1), DAY):
        records = rows(out / "examples" / f"dt={day}")
        same(records, slow.examples(day), by_event)
        in_order = sorted(records, key=lambda r: (r["_time"], r["_user"], r["_item"]))
        assert records == in_order, "across files"
        assert report["examples"][str(day)] == len(records)
    assert len(list((out / "examples").iterdir())) == 3
    assert report["duplicates"] == slow.doubles[DAY] and sum(slow.doubles.values()) > 0


def test_corpora(done):
    world, slow, out, _ = done
    for folder, moment in (("start", DAY), ("end", DAY + timedelta(days=1))):
        records = rows(out / "corpus" / folder)
        expected = slow.corpus(
            moment,
            unlisted=world.settings.get("unlisted") == "true",
            recent_days=1 if world.settings.get("days") else None,
        )
        assert records == sorted(expected, key=lambda r: r["_item"])


def test_evaluation(done):
    _, slow, out, _ = done
    records = rows(out / "evaluation")
    same(records, slow.evaluation(), lambda r: (r["_day"], r["_user"]))
    days = {r["_day"] for r in records}
    assert min(days) < DAY - timedelta(days=3), "held-out users of earlier days are there"
    newcomers = [r for r in records if not r["_past_events"]]
    assert {r["_day"] == DAY for r in newcomers} == {True, False}
    assert not any(r["last"] or r["_past"] for r in newcomers)
    assert any(r["device"] for r in newcomers)


def test_users(done):
    _, slow, out, report = done
    records = rows(out / "users")
    same(records, slow.users(), lambda r: r["_user"])
    assert report["known_users"] == len(records)
    assert any(not r["_past"] for r in records) or any(r["city"] is None for r in records)


def test_schemas(done):
    world, _, out, _ = done
    p, types = world.pipeline, {"aisle": pa.int64(), "tags": pa.list_(pa.string())}
    kinds = {
        "examples": feature_schema.example_schema(p),
        "evaluation": feature_schema.evaluation_schema(p),
        "users": feature_schema.users_schema(p),
        "corpus": feature_schema.corpus_schema(p, types),
    }
    for folder, schema in kinds.items():
        for file in (out / folder).rglob("*.parquet"):
            assert pq.read_schema(file).equals(schema), file


def test_rows_for_the_transform_graph(tmp_path):
    world = worlds.make(tmp_path, 4)
    slow, kept = Slow(world, DAY), tmp_path / "analysis"
    context = world.context(tmp_path / "out")
    write_raw(context, lambda rows: rows.analysis | beam.Map(keep, str(kept)))
    expected = {"query": [], "item": []}
    items = slow.snapshot("items", "sku", DAY)
    users = slow.snapshot("users", "id", DAY - timedelta(days=1))
    for day in [DAY - timedelta(days=n) for n in range(4)]:
        for e in slow.positives(day):
            row = slow.query(e, day, []) | slow.item(e["item"], day, items.get(e["item"]))
            user = users.get(e["user"], {})
            row |= {"city": user.get("city"), "height": float32(user.get("height"))}
            row["_time"] = e["t"]
            start = datetime.combine(day, datetime.min.time(), world.zone).astimezone(UTC)
            for tower, of_tower in expected.items():
                names = feature_schema.analysis_schema(world.pipeline, tower).names
                of_tower.append({name: row[name] for name in names if name != "_row"})
                if tower == "item":
                    of_tower[-1]["_time"] = start
    for tower, of_tower in expected.items():
        made = rows(kept / tower)
        assert len({row.pop("_row") for row in made}) == len(made), "each has a number of its own"
        same(made, of_tower, str)


def keep(batch, folder):
    """Keeps rows that the transform graph is fitted on, by tower."""
    place = Path(folder, "item" if "product" in batch.schema.names else "query")
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_batches([batch]), place / f"{secrets.token_hex(8)}.parquet")


def test_shards_alone_and_files_alone_give_the_same_bytes(one, tmp_path, monkeypatch):
    world, out = one
    monkeypatch.setattr(table_steps, "WORKED_ROWS", 1)
    monkeypatch.setattr(read_steps, "SHUFFLED_ROWS", 50)
    monkeypatch.setattr(read_steps, "PACKED_BYTES", 0)
    run(world, tmp_path / "alone", mode="full")
    assert digests(tmp_path / "alone") == digests(out)


def test_a_large_day_has_many_small_files_of_the_same_rows(one, tmp_path, monkeypatch):
    world, out = one
    monkeypatch.setattr(job, "BLOCK_ROWS", 2)
    monkeypatch.setattr(job, "FILE_EVENTS", 20)
    run(world, tmp_path / "cut", mode="full")
    for day in (DAY - timedelta(days=1), DAY):
        folder = f"examples/dt={day}"
        same(rows(tmp_path / "cut" / folder), rows(out / folder), by_event)
        files = [pl.read_parquet(file) for file in (tmp_path / "cut" / folder).iterdir()]
        assert max(map(len, files)) < 12 < len(files), "no file has many"
    for table in ("users", "evaluation"):
        same(rows(tmp_path / "cut" / table), rows(out / table), str)
        cut = len(list((tmp_path / "cut" / table).iterdir()))
        assert cut > len(list((out / table).iterdir()))


def test_full_mode_adds_days_and_changes_nothing_else(one, tmp_path):
    world, out = one
    run(world, tmp_path / "one")
    one, full = digests(tmp_path / "one", "report.json"), digests(out, "report.json")
    added = {name for name in full if name not in one}
    days = {f"dt={DAY - timedelta(days=n)}" for n in (1, 2)}
    assert {name.split("/")[1] for name in added} == days
    assert one == {name: full[name] for name in one}


def test_the_catalogue_alone_is_the_same_bytes(one, tmp_path):
    """What a refresh makes, without examples: nothing is read or counted otherwise."""
    world, out = one
    report = write_served(world.context(tmp_path / "alone")).model_dump(mode="json")
    alone, all_of_it = digests(tmp_path / "alone", "report.json"), digests(out, "report.json")
    served = ("corpus/end", "users")
    names = [name for name in all_of_it if name.startswith(("rejected", *served))]
    assert alone == {name: all_of_it[name] for name in names}
    assert {name.rsplit("/", 1)[0] for name in alone} >= set(served)
    actual = json.loads((out / "report.json").read_text())
    same = ("corpus_end", "known_users", "rows", "users", "items")
    assert {name: report[name] for name in same} == {name: actual[name] for name in same}


def test_the_catalogue_of_a_day_without_events_is_made_of_the_days_before(tmp_path):
    world = worlds.make(tmp_path / "world", 6)
    shutil.rmtree(world.folder / f"events/dt={DAY}")
    report = write_served(world.context(tmp_path / "out")).model_dump(mode="json")
    [snapshot] = report["snapshots"]["items"]
    corpus = rows(tmp_path / "out/corpus/end")
    assert snapshot == "2017-11-07" and report["corpus_end"] == len(corpus) > 5
    assert any(row["_popular"] for row in corpus)


def test_a_rerun_when_later_days_have_come_gives_the_same_bytes(one, tmp_path):
    world, out = one
    for table in ("events", "items", "users"):
        later = world.folder / table / f"dt={DAY + timedelta(days=1)}"
        shutil.copytree(world.folder / table / f"dt={max(getattr(world, table))}", later)
    run(world, tmp_path / "again", mode="full")
    assert digests(tmp_path / "again") == digests(out)


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_other_formats_give_the_same_bytes(one, tmp_path, format):
    world = worlds.make(tmp_path, ONE)
    worlds.write(world, format)
    run(world, tmp_path / format, mode="full")
    assert digests(tmp_path / format) == digests(one[1])


PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.mark.parametrize(
    "runner", [pytest.param("several processes", marks=pytest.mark.system), "prism"]
)
def test_other_runners_give_the_same_bytes(one, tmp_path, runner, monkeypatch, request):
    options = request.getfixturevalue("prism") if runner == "prism" else PROCESSES
    monkeypatch.setenv("PYTHONPATH", os.getcwd())  # for workers that are processes of their own
    world, here = one
    run(world, tmp_path / "there", mode="full", options=options)
    assert digests(tmp_path / "there") == digests(here)


@pytest.mark.system
def test_workers_that_do_not_share_the_output(one, tmp_path):
    """The runner says that all is well: each worker wrote its files on a separate host."""
    out = tmp_path / "out"
    out.mkdir()
    with (
        prism.running(tmp_path, hidden=out) as service,
        pytest.raises(UsageError, match="Every worker must see the same work_root"),
    ):
        run(one[0], out, options=service.options)


def test_each_day_draws_other_held_out_users():
    users = pl.Series([f"user {n}" for n in range(1000)])
    lots = [hashing.sampling_hashes(users, f"2017-10-{day}") for day in (16, 17)]
    held = [set(np.flatnonzero(of_day < hashing.limit(0.1))) for of_day in lots]
    assert all(70 < len(each) < 130 for each in held) and len(held[0] & held[1]) < 25


def test_lots_are_alike_in_every_release():
    """From `printf '2017-10-16|user 0' | b2sum -l 64`, bytes from the low end."""
    digests = map(bytes.fromhex, ("bde0c872966d2e44", "423f6c9efa72b1e0"))
    known = [int.from_bytes(digest, "little") for digest in digests]
    assert hashing.sampling_hashes(pl.Series(["user 0", "user 1"]), "2017-10-16").tolist() == known


@pytest.mark.live
def test_an_object_store_holds_the_same_bytes(one, remote_place, tmp_path):
    world = worlds.make(tmp_path, ONE)
    for table in ("events", "items", "users"):
        storage.upload_tree(world.folder / table, f"{remote_place}/{table}")
    remote = replace(world, settings={"root": f"{remote_place}/"})
    context = replace(
        remote.context(tmp_path, mode="full", replays=True), out=f"{remote_place}/out"
    )
    write_raw(context, lambda rows: None).write(context.out)
    storage.localize(f"{remote_place}/out", tmp_path / "remote")
    assert digests(tmp_path / "remote") == digests(one[1])
