from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluate import compare, evaluate_baselines, evaluate_lists, evaluate_ranked
from model.evaluation.evaluation_set import prepare
from model.evaluation.ranked_lists import RankedLists, rank
from twinspire_core.contracts.measures import Measures
from twinspire_core.metrics.list_metrics import top_k
from twinspire_core.metrics.measure_names import key, split_name, with_ceilings, with_floors

DAY = date(2024, 5, 20)
CORPUS = pa.table({"_item": list("abcde"), "_popular": [1, 9, 5, 0, 7], "_lately": [4, 0, 3, 2, 0]})


def rows(*each: tuple) -> pa.Table:
    """User, days before DAY, held out, truth, past."""
    user, back, held, truth, past = zip(*each, strict=True) if each else [[]] * 5
    days = [date.fromordinal(DAY.toordinal() - n) for n in back]
    lists = pa.list_(pa.string())
    columns = {"_user": pa.array(user, pa.string()), "_day": pa.array(days, pa.date32())}
    columns["_holdout"] = pa.array(held, pa.bool_())
    for name, items in {"_truth": truth, "_past": past}.items():
        columns[name] = pa.array(map(list, items), lists)
    return pa.table(columns)


def evaluate_split(evaluation_set, queries, items, ks):
    """Measures of two towers, by exact search of the whole corpus."""
    return evaluate_ranked(evaluation_set, rank(evaluation_set, queries, items, max(ks)), ks)


QUERIES = rows(("u", 0, False, "ab", "b"), ("v", 0, False, "z", "aez"), ("w", 0, True, "c", "cd"))


def test_two_towers_with_seen_items_kept_and_excluded():
    # One axis per item: each query lists the corpus by its own weights.
    # U: abcde, v: edcba, w: ceda…
    weights = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [2, 1, 5, 3, 4]], np.float32)
    scores = evaluate_split(prepare(QUERIES, CORPUS), weights, np.eye(5, dtype=np.float32), [1, 2])
    assert scores["seen"] == "kept"
    assert (scores["users"], scores["queries"], scores["days"], scores["items"]) == (3, 3, 1, 5)
    assert scores["recall@1"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert scores["recall@2"] == pytest.approx((2 / 2 + 0 + 1) / 3)
    assert scores["hit_rate@1"] == pytest.approx(2 / 3)
    assert scores["mrr"] == pytest.approx(2 / 3)
    assert scores["coverage@1"] == 3 / 5
    assert scores["coverage@2"] == 5 / 5  # ab, ed, ce
    fresh = scores["excluded"]  # u: acde, v: dcb, w: eab; what was seen stays wanted
    assert fresh["seen"] == "excluded"
    assert fresh["recall@2"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert fresh["coverage@2"] == 4 / 5  # ac, dc, ea


def test_the_lists_that_count_come_first():
    weights = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [2, 1, 5, 3, 4]], np.float32)
    arguments = (weights, np.eye(5, dtype=np.float32), [1, 2])
    kept = evaluate_split(prepare(QUERIES, CORPUS), *arguments)
    scores = evaluate_split(prepare(QUERIES, CORPUS, exclude_seen=True), *arguments)
    other = scores.pop("kept")
    assert scores == kept.pop("excluded") and other == kept, "the same figures, the other way round"
    unseen = prepare(QUERIES, CORPUS, exclude_seen=True)
    past = evaluate_baselines(unseen, [1, 2])["purchase_history"]
    popular = evaluate_baselines(prepare(QUERIES, CORPUS), [1, 2])["most_popular"]
    assert past.pop("kept")["recall@1"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert past == popular["excluded"], "nothing of the past is left"


def test_lists_that_are_not_there_cannot_count():
    with pytest.raises(ValueError, match="without seen items count"):
        RankedLists(np.zeros((1, 1), np.int64), None).counted(exclude_seen=True)


def test_the_corpus_is_all_items_and_not_those_of_the_test():
    # Only b was taken, and four items score higher: a corpus of b alone would find it first.
    split, weights = prepare(rows(("u", 0, False, "b", "")), CORPUS), np.array([[5, 1, 4, 3, 2]])
    scores = evaluate_split(
        split, weights.astype(np.float32), np.eye(5, dtype=np.float32), [1, 4, 5]
    )
    assert [scores[f"recall@{k}"] for k in (1, 4, 5)] == [0, 0, 1]
    assert scores["mrr"] == 1 / 5


def test_baselines():
    scores = evaluate_baselines(prepare(QUERIES, CORPUS), [1, 2])
    # Popular: becad. Lately: acdbe. Past, then popular: u b e…, v a e…, w c d…
    assert scores["most_popular"]["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["most_popular"]["excluded"]["recall@2"] == 0  # u: ec, v: bc, w: be
    assert scores["popular_lately"]["recall@2"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert scores["popular_lately"]["excluded"]["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert scores["purchase_history"]["recall@1"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert scores["purchase_history"]["coverage@2"] == 5 / 5
    assert scores["most_popular"]["coverage@2"] == 2 / 5
    assert "excluded" not in scores["purchase_history"]


def test_no_query_is_no_error():
    split = prepare(rows(), CORPUS)
    scores = evaluate_split(split, np.zeros((0, 5), np.float32), np.eye(5, dtype=np.float32), [2])
    assert (scores["users"], scores["recall@2"], scores["coverage@2"]) == (0, 0, 0)
    assert evaluate_baselines(split, [2])["purchase_history"]["queries"] == 0


def _random_day(seed: int, users: int = 60) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """A day with newcomers, users asked twice, true items outside the corpus; and vectors."""
    rng = np.random.default_rng(seed)
    names = list("abcdexy")  # x and y lie outside

    def lists(least: int, most: int) -> list[str]:
        lengths = rng.integers(least, most, users)
        return ["".join(rng.choice(names, n, replace=False)) for n in lengths]

    past, truth = lists(0, 6), lists(1, 5)
    table = rows(*[(f"u{i % 50}", 0, False, truth[i], past[i]) for i in range(users)])
    events = [0 if not p else len(p) + int(rng.integers(0, 20)) for p in past]
    draw = np.random.default_rng(seed + 1).standard_normal
    table = table.append_column("_past_events", pa.array(events))
    return table, draw((users, 3), np.float32), draw((5, 3), np.float32)


def _only(table: pa.Table, keep: list[bool]):
    return prepare(table.filter(pa.array(keep)).drop(["_past_events"]), CORPUS)


def test_newcomers_count_in_their_slice_alone():
    table, queries, items = _random_day(1)
    events = table.column("_past_events").to_pylist()
    split = prepare(table, CORPUS, bounds=[1, 5, 20])
    scores = evaluate_split(split, queries, items, [1, 3])
    assert 0 < events.count(0) < 20
    for keep, measures in (
        ([n > 0 for n in events], scores),
        ([n == 0 for n in events], scores["slices"]["users"]["0"]),
        ([1 <= n <= 4 for n in events], scores["slices"]["users"]["1-4"]),
        ([5 <= n <= 19 for n in events], scores["slices"]["users"]["5-19"]),
        ([n >= 20 for n in events], scores["slices"]["users"]["20+"]),
    ):
        alone = evaluate_split(_only(table, keep), queries[np.array(keep)], items, [1, 3])
        assert measures["users"] == alone["users"] > 0
        assert measures["queries"] == alone["queries"] == sum(keep)
        same = [name for name in measures if "@" in name or name == "mrr"]
        assert len(same) > 8
        assert [measures[name] for name in same] == pytest.approx([alone[name] for name in same])
    assert list(scores["slices"]["users"]) == ["0", "1-4", "5-19", "20+"]


def test_recall_of_true_items_by_their_earlier_events():
    """CORPUS has 1, 9, 5, 0, 7 events of a, b, c, d, e: one user at a time, in sets."""
    table, queries, items = _random_day(2)
    scores = evaluate_split(prepare(table, CORPUS, bounds=[1, 5, 9]), queries, items, [2])
    scores = scores["slices"]["items"]
    ranked = ["".join("abcde"[i] for i in one) for one in top_k(queries, items, 2)[0]]
    true = [row["_truth"] for row in table.to_pylist()]
    counted = [n > 0 for n in table.column("_past_events").to_pylist()]
    for name, members in {"0": "d", "1-4": "a", "5-8": "ce", "9+": "b"}.items():
        each = zip(ranked, true, counted, strict=True)
        asked = [(one, set(t) & set(members)) for one, t, c in each if c]
        shares = [len(wanted & set(one)) / len(wanted) for one, wanted in asked if wanted]
        assert scores[name]["true"] == sum(len(wanted) for _, wanted in asked)
        assert scores[name]["recall@2"] == pytest.approx(sum(shares) / len(shares))
        assert "ndcg@2" not in scores[name]
    outside = [len(set(t) & {"x", "y"}) for t, c in zip(true, counted, strict=True) if c]
    assert scores["outside"] == {"true": sum(outside)}
    assert list(scores) == ["0", "1-4", "5-8", "9+", "outside"]


def test_a_slice_without_users_has_no_measures():
    split = prepare(QUERIES, CORPUS, bounds=[1, 50])
    scores = evaluate_lists(split, np.array([[0, 1]] * 3), [2])["slices"]
    assert scores["users"]["50+"] == {"users": 0, "queries": 0}
    assert scores["users"]["1-49"]["users"] == 3  # by past items, where no `_past_events` is given
    assert scores["items"]["50+"] == {"users": 0, "true": 0}


def test_intervals_surround_the_means():
    table, queries, items = _random_day(3)
    split = prepare(table, CORPUS, bounds=[1, 5], resamples=200)
    scores = evaluate_split(split, queries, items, [1, 3])
    means = {name: scores[name] for name in scores if "@" in name or name == "mrr"}
    for side, slices in scores["slices"].items():
        for name, one in slices.items():
            of_slice = {m: x for m, x in one.items() if "@" in m or m == "mrr"}
            means |= {f"{m}/{side}:{name}": x for m, x in of_slice.items()}
    intervals = scores["intervals"]
    assert intervals.keys() <= means.keys()
    assert all(low <= means[name] <= high for name, (low, high) in intervals.items())
    assert sum(low < high for low, high in intervals.values()) > 15
    assert not {"coverage@3", "gini@3", "overlap@3"} & intervals.keys()
    there = {"recall@3", "recall@3/users:0", "recall@3/items:1-4", "popular_share@3"}
    assert there <= intervals.keys()


def test_after_a_missing_day_nobody_knows_what_is_popular():
    """`_lately` counts the day before alone. 0% would say that lists are full of what is rare."""
    table, queries, items = _random_day(6)
    quiet = CORPUS.set_column(2, "_lately", pa.array([0, None, 0, 0, 0], pa.int64()))
    found, usual = (
        evaluate_split(prepare(table, c, bounds=[1], resamples=50), queries, items, [3])
        for c in (quiet, CORPUS)
    )
    parts = [(found, usual), (found["intervals"], usual["intervals"])]
    parts.append((found["slices"]["users"]["0"], usual["slices"]["users"]["0"]))
    for one, other in parts:
        lost = {name for name in other.keys() - one.keys() if "/" not in name}
        assert lost == {"popular_share@3"}


def test_limits_can_be_set_to_all_that_is_measured_and_to_nothing_else():
    table, queries, items = _random_day(6, users=200)
    bounds, ks = (1, 3, 20), (1, 3)
    scores = evaluate_split(prepare(table, CORPUS, bounds=bounds), queries, items, ks)
    named = {*with_floors(ks, bounds), *with_ceilings(ks, bounds)}
    there = {name for name in scores if "@" in name or name == "mrr"}
    for side, parts in scores["slices"].items():
        for slice_name, one in parts.items():
            there |= {key(name, side, slice_name) for name in one if "@" in name or name == "mrr"}
    corpus_has_none = {key(f"recall@{k}", "items", "20+") for k in ks}
    assert named - there == corpus_has_none and there <= named
    for name in there:
        measures = Measures.model_validate(scores)
        _, side, slice_name = split_name(name)
        where = measures.slice(side, slice_name) if side else measures
        assert 0 <= measures.value(name) <= 1 and where.users > 0


def test_lists_are_compared_query_by_query():
    table, queries, items = _random_day(4)
    split = prepare(table, CORPUS, bounds=[1, 5], resamples=200)
    first = rank(split, queries, items, 3).kept
    # Every tenth user is given nothing
    second = np.where(np.arange(len(first))[:, None] % 10 == 0, -1, first)
    change = compare(split, second, first, [3])
    before, after = (evaluate_lists(split, x, [3]) for x in (first, second))
    assert change["recall@3"]["change"] == pytest.approx(after["recall@3"] / before["recall@3"] - 1)
    ratio = after["slices"]["users"]["0"]["mrr"] / before["slices"]["users"]["0"]["mrr"]
    assert change["mrr/users:0"]["change"] == pytest.approx(ratio - 1)
    # About a tenth is lost, and that is far surer than either mean: they are resampled together.
    low, high = change["recall@3"]["low"], change["recall@3"]["high"]
    assert -0.3 < low < change["recall@3"]["change"] < high <= 0
    alone = before["intervals"]["recall@3"]
    assert high - low < (alone[1] - alone[0]) / before["recall@3"]
    same = compare(split, first, first, [3])
    assert all((x["change"], x.get("low", 0), x.get("high", 0)) == (0, 0, 0) for x in same.values())
    assert compare(split, first, np.full_like(first, -1), [3]) == {}


def _slow_change(first, second, table: pa.Table, asked: list[bool]) -> list[float]:
    """Recall@3 of `second` against `first`: quantiles of 3,000 resamples of users, in loops."""
    rows = table.to_pylist()
    queries_of: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        queries_of.setdefault(row["_user"], []).append(place)
    users, rng, changes = sorted(queries_of), np.random.default_rng(77), []

    def recall(ranked: np.ndarray, place: int) -> float:
        wanted = set(rows[place]["_truth"])
        return len(wanted & {"abcde"[i] for i in ranked[place] if i >= 0}) / len(wanted)

    known = [(recall(first, n), recall(second, n)) for n in range(len(rows))]
    for _ in range(3000):
        drawn = [n for user in rng.choice(users, len(users)) for n in queries_of[user] if asked[n]]
        before, after = (sum(known[n][which] for n in drawn) for which in (0, 1))
        if drawn and (before or after):
            changes.append(after / before - 1 if before else np.inf)
        elif drawn:
            changes.append(0.0)
    return [float(x) for x in np.quantile(changes, [0.025, 0.975])]


@pytest.mark.parametrize("where", ["", "/users:0"])
def test_the_interval_of_a_change_is_that_of_a_slow_paired_bootstrap(where):
    table, queries, items = _random_day(8, users=150)
    events = table.column("_past_events").to_pylist()
    moved = queries + np.float32(0.6) * queries[::-1]
    first, second = (top_k(asking, items, 3)[0] for asking in (queries, moved))
    split = prepare(table, CORPUS, bounds=[1, 5], resamples=3000)
    change = compare(split, second, first, [3])[f"recall@3{where}"]
    asked = [n == 0 for n in events] if where else [n > 0 for n in events]
    low, high = _slow_change(first, second, table, asked)
    assert high - low > 0.05
    expected = pytest.approx([low, high], abs=0.05 * (high - low))
    assert [change["low"], change["high"]] == expected


def test_one_users_hit_lost_is_no_sure_loss():
    """Of 40 users one found something, and is missing in a third of the resamples."""
    table = rows(*[(f"u{n}", 0, False, "a", "b") for n in range(40)])
    split = prepare(table, CORPUS, resamples=400)
    before, after = np.full((2, 40, 1), 1)
    before[7] = 0
    change = compare(split, after, before, [1])["recall@1"]
    assert change == {"change": -1.0, "differ": 1, "worse": 1, "low": -1.0, "high": 0.0}


def test_users_who_fare_differently_are_counted_once():
    table = rows(*[(f"u{n % 5}", 0, False, "a", "b") for n in range(10)])
    before, after = np.zeros((2, 10, 1), np.int64)
    after[[0, 5, 6]] = 1  # u0 twice, u1 once
    before[8] = 1  # u3's list was worse before
    change = compare(prepare(table, CORPUS), after, before, [1])["recall@1"]
    assert change == {"change": pytest.approx(-2 / 9), "differ": 3, "worse": 2}


def test_one_search_gives_both_lists():
    """Users with short pasts, with pasts longer than the list, and with all items seen."""
    rng = np.random.default_rng(5)
    ids = [f"i{n:02d}" for n in range(40)]
    corpus = pa.table({"_item": ids, "_popular": [1] * 40, "_lately": [1] * 40})
    lengths = [0, 1, 2, 5, 6, 20, 39, 40, 3, 0]
    past = [[ids[n] for n in rng.permutation(40)[:length]] for length in lengths]
    asked = {"_user": [f"u{n}" for n in range(10)], "_truth": [["i00"]] * 10, "_past": past}
    split = prepare(pa.table(asked), corpus)
    queries, items = (rng.standard_normal((n, 4), np.float32) for n in (10, 40))
    ranked = rank(split, queries, items, 5)
    order = np.argsort(-(queries @ items.T), axis=1).tolist()
    assert ranked.kept.tolist() == [one[:5] for one in order]
    fresh = [[n for n in one if ids[n] not in seen] for one, seen in zip(order, past, strict=True)]
    assert ranked.excluded.tolist() == [(one + [-1] * 5)[:5] for one in fresh]
