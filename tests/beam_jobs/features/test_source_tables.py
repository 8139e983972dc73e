from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.features_stage import write_served
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.slow import Slow, float32
from tests.beam_jobs.features.test_raw_features_job import DAY, digests, rows, run
from twinspire_core.config.source_registry import SOURCE_NAMES
from twinspire_core.contracts import feature_schema
from twinspire_core.sources.candidate_sources import fits_of
from twinspire_core.sources.user_histories import Sequences

WINDOW_DAYS = 7
ONE = timedelta(days=1)
USE = f"use = {list(SOURCE_NAMES)}"
FITS = fits_of(SOURCE_NAMES)
MOMENTS = {"start": DAY, "end": DAY + ONE}


def _make(folder, sources=USE):
    return worlds.make(folder, 1, sources=sources, window=f"personal_days = {WINDOW_DAYS}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A world, and what the job made of it."""
    folder = tmp_path_factory.mktemp("world")
    world = _make(folder)
    run(world, folder / "out", mode="full")
    return world, Slow(world, DAY), folder / "out"


def test_the_same_bytes_from_however_many_shards(tmp_path):
    here = worlds.make(tmp_path / "world", 1, sources=USE)
    run(here, tmp_path / "three")
    here.settings["shards"] = "7"
    run(here, tmp_path / "seven")
    hashes = digests(tmp_path / "seven")
    assert hashes == digests(tmp_path / "three")
    tables = {name.partition("/")[0] for name in hashes}
    assert tables >= {"evaluation", "users", "sequences", "co_occurrence", "examples"}


def _expected(slow, moment):
    """Items and ages of each user, newest first, of what came before the moment."""
    first = slow.start(moment - WINDOW_DAYS * ONE)
    end = slow.start(moment)
    users = {}
    for event in slow.log:
        if event["kind"] in ("buy", "gift") and first <= event["t"] < end:
            users.setdefault(event["user"], []).append(event)
    newest_first = [
        sorted(events, key=lambda e: (-e["t"].timestamp(), e["item"])) for events in users.values()
    ]
    return sorted([(float32((end - e["t"]) / ONE), e["item"]) for e in own] for own in newest_first)


@pytest.mark.parametrize("when", MOMENTS)
def test_sequences_hold_what_came_before_the_moment(made, when):
    _, slow, out = made
    records = rows(out / "sequences" / when)
    expected = _expected(slow, MOMENTS[when])
    assert len(expected) > 5
    assert [*records[0]] == feature_schema.sequences_schema().names, "no users"
    told = sorted([*zip(row["_ages"], row["_items"], strict=True)] for row in records)
    assert told == expected
    assert min(age for row in told for age, _ in row) >= 0


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("name", FITS)
def test_tables_are_fitted_on_the_sequences_of_their_moment(made, name, when):
    _, _, out = made
    corpus = pq.read_table(out / "corpus" / when)["_item"].combine_chunks()
    assert corpus.equals(corpus.take(pa.compute.sort_indices(corpus)))
    sequences = Sequences.of(pq.read_table(out / "sequences" / when), corpus)
    assert len(sequences.items.values) > 10
    assert pq.read_table(out / name / when).equals(FITS[name](sequences, corpus))


def test_a_refresh_makes_what_is_served(made, tmp_path):
    world, _, out = made
    write_served(world.context(tmp_path / "out"))
    for name in FITS:
        assert not (tmp_path / "out" / name / "start").exists()
        assert digests(tmp_path / "out" / name / "end") == digests(out / name / "end")


def test_nothing_is_made_for_sources_that_are_not_used(tmp_path):
    world = _make(tmp_path, sources='use = ["two_tower", "history"]')
    run(world, tmp_path / "out")
    for name in ("sequences", *FITS):
        assert not (tmp_path / "out" / name).exists()


def test_a_shop_without_events_before_the_day_has_empty_tables():
    corpus = pa.array(["a", "b"])
    nothing = pa.Table.from_pylist([], schema=feature_schema.sequences_schema())
    sequences = Sequences.of(nothing, corpus)
    for name, fit in FITS.items():
        assert fit(sequences, corpus).num_rows == 0, name
        assert np.array_equal(sequences.ages, []), name
