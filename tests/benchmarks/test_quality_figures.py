"""Intervals, ratios and tables of the quality benchmark."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality import figures, report, tables, targets


def result(
    name: str,
    values: list[list[float]],
    user: Sequence[str] | None = None,
    earlier: Sequence[int] | None = None,
    case: str = "globo/next-day",
) -> figures.Result:
    n = len(values[0])
    return figures.Result(
        case=case,
        kind="kept",
        counts=True,
        contender=name,
        values=[{m: np.array(seed) for m in figures.METRICS} for seed in values],
        coverage=0.1,
        user=np.array(user or [f"u{i}" for i in range(n)]),
        earlier=np.array(earlier or [9] * n),
        settings={"a": 1},
        seconds=[1.0],
        rate=[],
    )


def test_the_mean_over_the_seeds_lies_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    seeds = [rng.binomial(1, 0.3, 2000).astype(float).tolist() for _ in range(3)]
    row = result("twinspire/mix", seeds).row()
    assert row["recall@50"] == pytest.approx(np.mean(seeds), abs=1e-4)
    # One seed's standard error would be sqrt(.3 * .7 / 2000) = .0102; of three independent ones
    # less, never more.
    assert 0.6 * 0.0102 / 3**0.5 < (row["high"] - row["low"]) / 4 < 0.0102


def test_a_seed_that_differs_widens_the_interval() -> None:
    same = result("tfrs", [[0.5] * 100] * 3)
    other = result("tfrs", [[0.4] * 100, [0.5] * 100, [0.6] * 100])
    assert np.ptp(same.draws) == 0
    assert np.ptp(other.draws) == pytest.approx(0.2)


def test_a_users_queries_of_all_days_are_resampled_together() -> None:
    rng = np.random.default_rng(4)
    user = rng.integers(0, 40, 400).astype(str)
    # What a user finds is much alike on all days
    values = (user.astype(int) % 4 / 4 + rng.random(400) / 20).tolist()
    found = result("als", [values], user=user.tolist())
    names = np.unique(user)
    slow = []
    for _ in range(2000):
        drawn = rng.choice(names, len(names))
        rows = np.concatenate([np.flatnonzero(user == name) for name in drawn])
        slow.append(np.mean(np.array(values)[rows]))
    assert found.interval == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.012)
    # As if all 400 were users of their own it would be less than half as wide
    alone = result("als", [values]).interval
    assert alone[1] - alone[0] < 0.5 * (found.interval[1] - found.interval[0])


def test_a_ratios_interval_is_that_of_pairs() -> None:
    rng = np.random.default_rng(5)
    below = rng.random(300)
    above = 1.1 * below + rng.normal(0, 0.01, 300)
    ratio = figures.ratio(result("a", [above.tolist()]), result("b", [below.tolist()]))
    slow = []
    for _ in range(2000):
        rows = rng.integers(300, size=300)
        slow.append(above[rows].mean() / below[rows].mean())
    assert ratio[0] == pytest.approx(above.mean() / below.mean())
    assert ratio[1:] == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.0015)


def test_what_is_served_is_compared_with_the_best_peer_of_earlier_days_in_each_slice() -> None:
    earlier = [0, 3, 3, 9] * 20 + [30]
    mix = result("twinspire/served", [[0.1, 0.4, 0.8, 0.5] * 20 + [0.1]], earlier=earlier)
    als = result("als", [[0.2, 0.2, 0.4, 0.4] * 20 + [0.1]], earlier=earlier)
    ease = result("ease", [[0.0, 0.9, 0.9, 0.9] * 20 + [0.1]], earlier=earlier)
    found = targets.targets([mix, als, ease], {("globo/next-day", "kept"): ["als"]})
    assert [(t.below, t.aim) for t in found if t.users == "all"] == [("als", 1.05), ("ease", 1.0)]
    of = {t.users: t for t in found if t.best}
    assert {t.below for t in of.values()} == {"als"}
    assert len(found) == len(of) + 1  # of other peers no slices
    assert of["all"].found == pytest.approx(34.1 / 20.1, rel=1e-4)  # the newcomers aside
    assert of["new"].found == pytest.approx(0.5) and of["new"].surely_below
    assert of["1-4"].found == pytest.approx(2.0) and of["1-4"].verdict == "reached"
    assert of["20+"].verdict == "too few"
    assert of["new"].verdict == "MISSED by 0.500"


def test_a_target_is_reached_only_if_it_is_sure() -> None:
    rng = np.random.default_rng(6)
    low = rng.random(50)
    noisy = 1.2 * rng.permutation(low)
    found = targets.targets(
        [result("twinspire/served", [noisy.tolist()]), result("als", [low.tolist()])],
        {("globo/next-day", "kept"): ["als"]},
    )
    assert found[0].found == pytest.approx(1.2) and not found[0].surely_above
    assert found[0].verdict == "MISSED: not surely above 1"


def test_the_pages_tables_are_put_between_their_marks() -> None:
    mix = result("twinspire/served", [[0.25] * 9])
    als = replace(result("als", [[0.2] * 9]), weekly=True)
    best = {("globo/next-day", "kept"): ["als"]}
    reached = targets.targets([mix, als], best)
    told = json.loads(json.dumps(report.told([mix, als], reached, best)))
    page = "before\n<!-- quality: begin -->\nold\n<!-- quality: end -->\nafter\n"
    page += "<!-- quality ratios: begin --><!-- quality ratios: end -->"
    lines = tables.with_tables(page, told).splitlines()
    assert lines[0] == "before" and "after" in lines and "old" not in lines
    assert "| twinspire/served | **0.250 ± 0.000** |" in lines
    assert "| als | 0.200 ± 0.000* |" in lines
    ratio = "1.250 (1.25 to 1.25) | 1.05 | reached |"
    assert f"| globo/next-day, seen kept | 0.250 | als | 0.200 | {ratio}" in lines


def test_readmes_rows_have_the_best_other_method_of_each_measure() -> None:
    def row(case: str, name: str, recall: float, ndcg: float) -> dict[str, object]:
        figures = {"recall@50": recall, "ndcg@10": ndcg}
        return {"case": case, "kind": "kept", "counts": True, "contender": name, **figures}

    rows = [
        row(case, *figures)
        for case in tables.IN_SHORT
        for figures in (
            ("twinspire/served", 0.3, 0.2),
            ("twinspire/two-tower", 0.9, 0.9),
            ("past", 0.25, 0.1),
            ("ials", 0.2, 0.4),
        )
    ]
    sure = {"users": "all", "above": "twinspire/served", "found": 1.2, "low": 1.1, "high": 1.3}
    ratio = {"case": "groceries/next-day", "kind": "kept", "below": "past", **sure}
    lines = tables.short_table({"figures": rows, "ratios": [ratio]}).splitlines()[2:]
    assert lines == [
        "| groceries, recall@50 | 0.300 | past | 0.250 | 1.200 (1.10 to 1.30) |",
        "| groceries, ndcg@10 | 0.200 | ials | 0.400 | 0.500 |",
        "| small shop, recall@50 | 0.300 | past | 0.250 | 1.200 |",
        "| small shop, ndcg@10 | 0.200 | ials | 0.400 | 0.500 |",
    ]


def test_a_best_peer_that_was_not_asked_beside_what_is_served_has_no_interval() -> None:
    mix = result("twinspire/served", [[0.25] * 9])
    als = result("als", [[0.2] * 9])
    best = {("globo/next-day", "kept"): ["als", "ease"]}
    told = report.told([mix], [], best)
    apart = report.merged(report.told([als], [], best), told)
    lines = tables.ratios_table(apart).splitlines()
    assert (
        "| globo/next-day, seen kept | 0.250 | als | 0.200 | 1.250, not asked together | | |"
        in lines
    )
    assert "| globo/next-day, seen kept | 0.250 | ease |  | not measured | | |" in lines
    assert "| als | 1.250, apart |" in tables.peers_table(apart)


def test_what_is_served_is_shown_over_each_peer_and_our_encoder_over_tfrs() -> None:
    two = [result(name, [[0.3] * 9]) for name in ("twinspire/served", "twinspire/mean")]
    peers_ = [result(name, [[0.2] * 9]) for name in ("als", "tfrs")]
    told = json.loads(json.dumps(report.told([*two, *peers_], targets.targets(two + peers_, {}))))
    assert "| als | 1.500 (1.50 to 1.50) |" in tables.peers_table(told)
    lines = tables.two_towers_table(told).splitlines()
    assert lines[0] == "| case | twinspire/mean / tfrs |"
    assert lines[2:] == ["| globo/next-day, seen kept | 1.500 (1.50 to 1.50) |"]


def test_results_of_other_cases_and_contenders_stay() -> None:
    def row(case: str, name: str, **more: object) -> dict[str, object]:
        return {"case": case, "kind": "kept", "contender": name, **more}

    def ratio(name: str, **more: object) -> dict[str, object]:
        return {"case": "b", "kind": "kept", "users": "all", "above": "x", "below": name, **more}

    before = {
        "figures": [row("a", "x"), row("b", "x", old=True), row("b", "als")],
        "ratios": [ratio("als", old=True), ratio("ease")],
    }
    new = report.merged({"figures": [row("b", "x")], "ratios": [ratio("als")]}, before)
    assert new["figures"] == [row("a", "x"), row("b", "als"), row("b", "x")]
    assert new["ratios"] == [ratio("ease"), ratio("als")]


def test_the_pages_say_what_the_committed_results_say() -> None:
    if not report.RESULTS.exists():
        pytest.skip("there are no results yet")
    found = json.loads(report.RESULTS.read_text())
    for page in (report.README, report.MEASUREMENTS):
        text = page.read_text()
        assert "quality" in text and tables.with_tables(text, found) == text
