from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from model.ranking import kind_of_log as told
from model.ranking.ranking_rows import RankingRows
from twinspire_core.fusion.fixed_order import NEITHER, REPEATS, STEADY

PLACES = ("place:history",)
COUNTS = ("popular", "lately", "trending:1h", "trending:1d", "trending:7d", "trending:28d")


def kind_of_log(days, exclude_seen=False):
    return told.kind_of_log(days, exclude_seen=exclude_seen)


def rows(names: tuple[str, ...], values: list[list[float]], queries: int = 200) -> RankingRows:
    """Queries of three candidates each; the first is taken."""
    return RankingRows(
        day=date(2024, 3, 1),
        sources=("two_tower",),
        lengths=np.full(queries, 3),
        by_history=np.zeros(queries, bool),
        taken=np.tile([True, False, False], queries),
        weights=np.ones(3 * queries, np.float32),
        names=names,
        values=np.tile(np.array(values, np.float32), (queries, 1)),
    )


def finding(*best: str) -> RankingRows:
    """Some counts have what is taken first, all others have it last."""
    first = [[1.0 if name in best else 0.0 for name in COUNTS]]
    return rows(COUNTS, first + [[0.5] * len(COUNTS)] * 2)


@pytest.mark.parametrize(("place", "kind"), [(3, REPEATS), (np.nan, NEITHER), (100, NEITHER)])
def test_users_take_again_what_they_had(place, kind):
    made = rows(PLACES, [[place], [5.0], [5.0]])
    assert kind_of_log([made]) == kind
    assert kind_of_log([made], exclude_seen=True) == NEITHER, "no list repeats anything"


def test_one_day_of_many_has_no_repeats():
    few = rows(PLACES, [[3.0], [5.0], [5.0]], queries=11)
    many = rows(PLACES, [[100.0], [5.0], [5.0]], queries=100)
    assert kind_of_log([few, many]) == NEITHER
    assert kind_of_log([few, few, many]) == REPEATS


@pytest.mark.parametrize(
    ("best", "kind"),
    [(("popular",), STEADY), (("lately",), NEITHER), (("popular", "lately"), STEADY)],
)
def test_users_take_what_is_popular_all_the_time_or_lately(best, kind):
    assert kind_of_log([finding(*best)]) == kind


def test_of_a_log_without_rows_nothing_is_known():
    assert kind_of_log([]) == NEITHER
    assert told.choose_half_life([]) == "1d"
    assert told.choose_half_life([rows(PLACES, [[1.0, 1.0]] * 3)]) == "1d"


@pytest.mark.parametrize("name", ["1h", "1d", "7d", "28d"])
def test_the_half_life_that_has_what_is_taken_first_is_chosen(name):
    assert told.choose_half_life([finding(f"trending:{name}")]) == name


def test_the_usual_half_life_stays_where_others_are_no_better_or_users_are_few():
    all_alike = finding("trending:1h", "trending:1d", "trending:7d", "trending:28d")
    assert told.choose_half_life([all_alike]) == "1d"
    few = rows(COUNTS, [[1.0 if name == "trending:1h" else 0.0 for name in COUNTS]] * 3, queries=9)
    assert told.choose_half_life([few]) == "1d"


def test_gains_are_a_slow_sum_over_places():
    """A candidate of weight 3 takes up three places."""
    rng = np.random.default_rng(0)
    lengths = np.array([3, 1, 5])
    taken = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0], bool)
    weights = np.array([1, 3, 1, 1, 1, 3, 1, 1, 3], np.float32)
    values = rng.permutation(9).astype(np.float32)
    made = replace(
        rows(("popular",), [[0.0]] * 3),
        lengths=lengths,
        by_history=np.zeros(3, bool),
        taken=taken,
        weights=weights,
        values=values[:, np.newaxis],
    )
    expected = 0.0
    for start, length in zip([0, 3, 4], lengths, strict=True):
        place, found = 0.0, []
        for row in sorted(range(start, start + length), key=lambda row: -values[row]):
            if taken[row]:
                found.append(1 / np.log2(2 + place))
            place += weights[row]
        expected += np.mean(found)
    assert told._gains([made], ("popular",)) == pytest.approx({"popular": expected})
