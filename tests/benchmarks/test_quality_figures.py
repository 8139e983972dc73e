"""Intervals, ratios and tables of the quality benchmark."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from benchmarks.quality import figures, report

DAYS = [f"2017-11-{day:02}" for day in range(6, 20)]


def result(
    name: str,
    values: Sequence[Sequence[float]],
    day: Sequence[str] | None = None,
    user: Sequence[str] | None = None,
    earlier: Sequence[int] | None = None,
    case: str = "groceries/next-day",
) -> figures.Result:
    n = len(values[0])
    which = {"case": case, "period": "development", "kind": "kept", "contender": name}
    rest = {"counts": True, "coverage": 0.1, "settings": {"a": 1}, "cpu": [1.0, 3.0]}
    return figures.Result(
        values=[{m: np.array(seed) for m in figures.METRICS} for seed in values],
        day=np.array(day if day is not None else DAYS[:1] * n),
        user=np.array(user if user is not None else [f"u{i}" for i in range(n)]),
        earlier=np.array(earlier if earlier is not None else [9] * n),
        **which,
        **rest,
    )


def two_weeks(seed: int, days: int = 14, users: int = 40) -> tuple[np.ndarray, ...]:
    """What each user finds on each day: some days are good ones, and some users easy."""
    rng = np.random.default_rng(seed)
    day, user = np.divmod(np.arange(days * users), users)
    easy, good = rng.random(users), rng.random(days)
    return easy[user] + good[day] + rng.random(len(day)) / 10, np.array(DAYS)[day], user.astype(str)


def test_days_and_users_are_drawn_together() -> None:
    values, day, user = two_weeks(1)
    rng = np.random.default_rng(2)
    table = values.reshape(14, 40)
    slow = []
    for _ in range(4000):
        days, users = rng.integers(14, size=14), rng.integers(40, size=40)
        slow.append(table[np.ix_(days, users)].mean())
    row = result("ials", [values], day, user).row()
    found = [row["low"], row["high"]]
    assert found == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.02)
    # Users alone would make it much narrower.
    alone = [table[:, rng.integers(40, size=40)].mean() for _ in range(4000)]
    assert np.ptp(np.quantile(alone, [0.025, 0.975])) < 0.85 * (found[1] - found[0])


def test_on_fewer_than_eight_days_nothing_is_sure() -> None:
    for days in (7, 8):
        values, day, user = two_weeks(1, days)
        a, b = result("a", [2 * values], day, user), result("b", [values], day, user)
        ratio = figures.ratio(a, b)
        assert (ratio.low is None, ratio.p is None) == (days < 8, days < 8)
        assert list(ratio.daily) == DAYS[:days] and set(ratio.daily.values()) == {2.0}
        assert (a.row()["low"] is None) == (days < 8)


def test_a_seed_that_differs_widens_the_interval() -> None:
    _, day, user = two_weeks(1)
    half = np.full(len(day), 0.5)
    same = result("tfrs", [half] * 3, day, user).draws()
    other = result("tfrs", [half - 0.1, half, half + 0.1], day, user).draws()
    assert same is not None and np.ptp(same) < 1e-6
    assert other is not None and np.ptp(other) == pytest.approx(0.2, abs=1e-6)


def test_a_ratios_interval_is_that_of_pairs() -> None:
    below, day, user = two_weeks(3)
    above = 1.1 * below + np.random.default_rng(4).normal(0, 0.01, len(below))
    a, b = result("a", [above], day, user), result("b", [below], day, user)
    ratio = figures.ratio(a, b)
    assert ratio.found == pytest.approx(above.mean() / below.mean(), rel=1e-4)
    assert 1.09 < ratio.low < ratio.found < ratio.high < 1.11  # type: ignore[operator]
    assert ratio.p == pytest.approx(2 / 4001, rel=1e-3)
    assert figures.ratio(b, a).p == ratio.p and figures.ratio(b, b).p == 1.0


def test_holm_adjusts_the_smallest_by_all_and_never_reorders() -> None:
    # By hand: 3 x 0.01, then 2 x 0.02 = 0.04, then 1 x 0.03, which may not fall below that.
    assert figures.holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert figures.holm([0.6, 0.9]) == [1.0, 1.0] and figures.holm([]) == []


def test_peers_that_know_the_day_are_compared_with_what_was_sent_it() -> None:
    names = ("twinspire/served", "twinspire/sent", "popular_decayed", "ials")
    actual = {
        case: report.ratios([result(name, [[0.3] * 9], case=case) for name in names])
        for case in ("globo/last-click", "globo/next-day")
    }

    def pairs(case: str) -> set[tuple[str, str]]:
        return {(row["above"], row["below"]) for row in actual[case] if row["users"] == "all"}

    both = {("twinspire/served", "ials")}
    assert pairs("globo/last-click") == both | {("twinspire/sent", "popular_decayed")}
    assert pairs("globo/next-day") == both | {("twinspire/served", "popular_decayed")}


def test_on_the_days_that_judge_the_two_tower_peers_are_compared_with_it_alone() -> None:
    names = ("twinspire/two-tower", "tfrs", "ials")
    measured = [replace(result(name, [[0.3] * 9]), period="towers") for name in names]
    pairs = [(row["above"], row["below"], row["measure"]) for row in report.ratios(measured)]
    expected = product(names[:1], names[1:], ("recall@50", "ndcg@10"))
    assert pairs == list(expected)


def collected(ours: np.ndarray, theirs: np.ndarray, day: np.ndarray, user: np.ndarray) -> dict:
    """results.json of what is served and a peer; every fourth user is new, the others have 9."""
    earlier = np.where(user.astype(int) % 4, 9, 0)
    results = [
        result("twinspire/served", [ours], day, user, earlier),
        replace(result("purchase_history", [theirs], day, user, earlier), weekly=True),
    ]
    return json.loads(json.dumps(report.collect(results)))


def test_slices_are_below_only_if_that_is_sure_after_holm() -> None:
    values, day, user = two_weeks(5)
    new = user.astype(int) % 4 == 0
    lines = report.slices_table(collected(np.where(new, values / 2, values), values, day, user))
    assert lines.splitlines()[0] == "Served lists are surely worse in 1 of 2 comparisons."
    assert "| new | 140 | purchase_history | 0.500 (0.500 to 0.500) |" in lines.splitlines()[-1]
    few = day < DAYS[7]
    weak = collected(values[few] / 2, values[few], day[few], user[few])
    assert "0 of 0 comparisons" in report.slices_table(weak)


def test_results_of_other_cases_periods_and_contenders_stay() -> None:
    def row(case: str, name: str, period: str = "development", **more: object) -> dict:
        return {"case": case, "period": period, "kind": "kept", "contender": name, **more}

    def ratio(name: str, **more: object) -> dict[str, object]:
        key = {"case": "b", "period": "development", "kind": "kept", "users": "all"}
        return {**key, "measure": "ndcg@10", "above": "x", "below": name, **more}

    before = {
        "figures": [row("a", "x"), row("b", "x", "towers"), row("b", "x", old=True)],
        "ratios": [ratio("ials", old=True), ratio("hstu")],
    }
    new = report.merged({"figures": [row("b", "x")], "ratios": [ratio("ials")]}, before)
    assert new["figures"] == [row("a", "x"), row("b", "x", "towers"), row("b", "x")]
    assert new["ratios"] == [ratio("hstu"), ratio("ials")]


def test_the_pages_say_what_the_committed_results_say() -> None:
    actual = json.loads(report.RESULTS.read_text())
    for page in (report.README, report.MEASUREMENTS):
        text = page.read_text()
        assert "quality" in text and report.with_tables(text, actual) == text
