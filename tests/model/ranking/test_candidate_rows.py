from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.ranking import candidate_rows
from model.ranking.candidate_rows import BY_CHANCE, HARDEST, keep_needed, sample_pairs
from tests.model.ranking.asked_day import TODAY, ranking_rows
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists


def _rows(day=TODAY, queries=3, *, sources=("history",), names=("a", "b")):
    rng = np.random.default_rng(day.toordinal())
    lengths = rng.integers(1, 5, queries)
    candidates = int(lengths.sum())
    more = {"sources": sources, "by_history": np.arange(queries) % 3 == 2}
    taken, weights = rng.random(candidates) < 0.5, rng.random(candidates).astype(np.float32)
    values = rng.normal(size=(candidates, len(names)))
    return ranking_rows(lengths, values, names, taken, day, weights=weights, **more)


def _pairs(queries, items):
    lists = {"history": ScoredLists.by_place(np.tile(np.arange(items), (queries, 1)))}
    nothing = np.zeros(0, np.int64)
    return Pairs.of(lists, Queries.of_past(Ragged(nothing, nothing, queries)), items)


def test_all_that_was_taken_is_kept_with_the_hardest_and_others_by_chance():
    pairs = _pairs(3, 400)
    taken = np.isin(pairs.item, [7, 399]) & (pairs.query != 1)
    kept, weights = sample_pairs(pairs, taken, seed=1)
    each = HARDEST + BY_CHANCE + 2
    assert np.bincount(pairs.query[kept], minlength=3).tolist() == [each, 0, each]
    assert (np.diff(kept) > 0).all() and taken[kept].sum() == taken.sum()
    items = pairs.item[kept][:each]
    # The list is in order of the items.
    assert items[: HARDEST + 1].tolist() == list(range(HARDEST + 1)), "7 was taken"
    by_chance = items[HARDEST + 1 : -1]
    assert by_chance.min() < 120 and by_chance.max() > 360, "from all of the rest"
    assert set(items) != set(pairs.item[kept][each:])
    assert np.unique(weights[: HARDEST + 1]).tolist() == [1]
    np.testing.assert_allclose(weights[HARDEST + 1 : each - 1], (400 - 2 - HARDEST) / BY_CHANCE)
    assert weights[each - 1] == 1, "what was taken stands for itself"


def test_what_several_sources_list_is_harder_than_what_one_lists():
    order = np.arange(400)
    lists = {
        "history": ScoredLists.by_place(order[np.newaxis]),
        "popular": ScoredLists.by_place(np.append(order[300:], order[:300])[np.newaxis]),
    }
    nothing = np.zeros(0, np.int64)
    pairs = Pairs.of(lists, Queries.of_past(Ragged(nothing, nothing, 1)), 400)
    kept, weights = sample_pairs(pairs, pairs.item == 0, seed=0)
    hard = pairs.item[kept[weights == 1]]
    gains = 1 / (1 + order / 60) + 1 / (1 + (order + 100) % 400 / 60)
    wanted = [item for item in np.argsort(-gains, kind="stable") if item != 0][:HARDEST]
    assert sorted(hard.tolist()) == sorted([0, *wanted])


def test_days_are_read_as_they_were_written(tmp_path):
    days = [_rows(), _rows(TODAY - timedelta(days=1))]
    candidate_rows.write(tmp_path, days)
    for wanted, value in zip(days, candidate_rows.read(str(tmp_path)), strict=True):
        assert (value.day, value.sources, value.names) == (wanted.day, wanted.sources, wanted.names)
        for name in ("lengths", "by_history", "taken", "weights", "values"):
            np.testing.assert_array_equal(getattr(value, name), getattr(wanted, name))


def test_what_was_read_is_written_as_the_same_file_and_what_is_not_ours_is_left(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    candidate_rows.write(before, [_rows(), _rows(TODAY - timedelta(days=1))])
    for name in ("README", "dt=old.parquet", "dt=2024-05-18.csv"):
        (before / "ranking_rows" / name).write_text("no rows")
    _, yesterday = candidate_rows.read(str(before))
    candidate_rows.write(after, [_rows(TODAY + timedelta(days=1)), yesterday])
    name = "ranking_rows/dt=2024-05-19.parquet"
    assert (after / name).read_bytes() == (before / name).read_bytes()
    assert [rows.day.day for rows in candidate_rows.read(str(after))] == [21, 19]


def test_rows_of_another_format_are_left_alone(tmp_path):
    candidate_rows.write(tmp_path, [_rows()])
    (place,) = (tmp_path / "ranking_rows").iterdir()
    table = pq.read_table(place)
    metadata = {**table.schema.metadata, b"twinspire.ranking_rows.format": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), place)
    assert candidate_rows.read(str(tmp_path)) == []


def test_a_file_holds_no_ids(tmp_path):
    candidate_rows.write(tmp_path, [_rows()])
    (place,) = (tmp_path / "ranking_rows").iterdir()
    kinds = {str(field.type) for field in pq.read_schema(place)}
    assert kinds == {"bool", "list<element: bool>", "list<element: float>"}


def test_a_user_counts_once_however_often_asked():
    rows = _rows(queries=7)
    assert (rows.queries, len(rows.lengths)) == (5, 7)
    assert replace(rows, by_history=np.ones(7, bool)).queries == 7


def test_a_feature_that_a_day_lacks_is_missing():
    rows = _rows(names=("a",))
    values = rows.of_names(("new", "a"))
    assert np.isnan(values[:, 0]).all()
    np.testing.assert_array_equal(values[:, 1], rows.values[:, 0])


def test_candidates_of_other_lists_are_left_out():
    yesterday, before = TODAY - timedelta(days=1), TODAY - timedelta(days=2)
    other = _rows(before, sources=("history", "popular"))
    kept = keep_needed([_rows(yesterday), _rows(), other], TODAY, sources=["history"])
    assert [rows.day for rows in kept] == [TODAY, yesterday]


@pytest.mark.parametrize(("limit", "value", "kept"), [("MOST", 5, 2), ("MOST_DAYS", 3, 3)])
def test_the_newest_days_are_kept_until_there_are_enough_or_too_old(
    monkeypatch, limit, value, kept
):
    monkeypatch.setattr(candidate_rows, limit, value)
    days = [_rows(TODAY - timedelta(days=back)) for back in range(6)]
    actual = keep_needed(days, TODAY, sources=["history"])
    assert [rows.day for rows in actual] == [rows.day for rows in days[:kept]]
