"""The gate's floors and ceilings, of all users, of slices and of what is served; a stricter limit never
accepts more."""

from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.gate.comparison import DaysItems, MeasuredUsers
from index_builder.gate.limits import judge_skew
from tests.index_builder.gate.gates import any_day, gate, share, verdict
from twinspire_core.contracts.day_metrics import HeldOutMeasures, RankerFit, RankerMeasures
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange

SERVED = "served lists: "


@pytest.mark.parametrize(("floor", "accepted"), [(0.29, True), (0.3, True), (0.31, False)])
def test_floors_hold_even_with_few_users(floor, accepted):
    assert verdict(gate(floors={"coverage@50": floor}), users=3).accepted == accepted


@pytest.mark.parametrize(("ceiling", "accepted"), [(0.8, True), (0.79, False)])
def test_ceilings_hold_what_is_shown_to_all(ceiling, accepted):
    candidate = {"recall@50": 0.2, "gini@50": 0.8, "overlap@50": 0.3}
    ruling = verdict(
        gate(ceilings={"gini@50": ceiling, "overlap@50": 0.3}), candidate=candidate, users=3
    )
    assert ruling.accepted == accepted
    if not accepted:
        assert ruling.refused == ("gini@50 is 0.8000, above 0.7900, its ceiling in gate.ceilings",)


@pytest.mark.parametrize(
    ("limits", "users", "refused", "noted"),
    [
        ({"floors": {"recall@50/users:0": 0.05}}, 200, 0, 0),
        ({"floors": {"recall@50/users:0": 0.07}}, 200, 1, 0),
        ({"floors": {"recall@50/users:0": 0.07}}, 199, 0, 1),
        ({"floors": {"recall@50/items:0": 0.02}}, 200, 1, 0),
        ({"floors": {"recall@50/items:1-4": 0.02}}, 200, 0, 1),  # a slice without users
        ({"ceilings": {"popular_share@50/users:0": 0.5}}, 200, 1, 0),
        ({"ceilings": {"popular_share@50/users:0": 0.6}}, 200, 0, 0),
        ({"ceilings": {"popular_share@50/users:0": 0.5}}, 199, 0, 1),
    ],
)
def test_limits_of_a_slice(limits, users, refused, noted):
    newcomers = {"users": users, "recall@50": 0.06, "popular_share@50": 0.55}
    slices = {"users": {"0": newcomers}, "items": {"0": {"users": users, "recall@50": 0.01}}}
    ruling = verdict(
        gate(**limits, min_users=200), candidate={"recall@50": 0.2, "slices": slices}, baseline=None
    )
    about = [text for text in ruling.notes if "/" in text]
    assert (len(ruling.refused), len(about)) == (refused, noted)
    assert all(str(users) in text or "0 users" in text for text in about)


@pytest.mark.parametrize(
    ("limits", "changes", "refused"),
    [
        ({"floors": {"coverage@50": 0.1}}, {}, []),
        ({"floors": {"coverage@50": 0.2}}, {}, [f"{SERVED}coverage@50 is 0.1500, below 0.2000"]),
        ({"floors": {"coverage@50": 0.2, "served/coverage@50": 0.1}}, {}, []),
        ({"floors": {"served/coverage@50": 0.2}}, {}, [f"{SERVED}coverage@50 is 0.1500, below"]),
        ({"ceilings": {"overlap@50": 0.5}}, {}, [f"{SERVED}overlap@50 is 0.6000, above 0.5000"]),
        ({"ceilings": {"overlap@50": 0.5, "served/overlap@50": 0.7}}, {}, []),
        ({"floors": {"served/recall@50/users:0": 0.2}}, {}, [f"{SERVED}recall@50/users:0 is 0.1"]),
        ({"floors": {"served/recall@50/users:1-4": 0.2}}, {}, []),  # a slice without users
        ({"floors": {"gini@50": 0.2}}, {}, ["gini@50 is missing", f"{SERVED}gini@50 is missing"]),
        ({"floors": {"coverage@50": 0.2}}, {"users": 199}, []),
    ],
)
def test_limits_hold_for_what_is_served_too(limits, changes, refused):
    """Its lists cover less than the two-tower's, and have more in common."""
    slices = {"users": {"0": {"users": 300, "recall@50": 0.1}}}
    own = {"recall@50": 0.3, "coverage@50": 0.15, "overlap@50": 0.6, "slices": slices}
    candidate = {"recall@50": 0.2, "coverage@50": 0.3, "overlap@50": 0.2}
    ruling = verdict(
        gate(**limits), candidate=candidate, fixed_order={"candidate": own, "users": 500, **changes}
    )
    assert len(ruling.refused) == len(refused)
    assert all(text.startswith(one) for text, one in zip(ruling.refused, refused, strict=True))
    assert not any("served/" in text for text in (*ruling.refused, *ruling.notes)), (
        "that is no measure of the two-tower"
    )
    for users in changes.values():
        about = f"{users} held-out users of the day itself"
        assert any(about in text for text in ruling.notes), "what was not judged is said"


def test_limits_hold_for_trees_where_these_serve():
    trees = HeldOutMeasures(users=500, candidate={"recall@50": 0.3, "overlap@50": 0.6})
    limits = gate(ceilings={"served/overlap@50": 0.5})
    ranker = RankerMeasures(fitted=RankerFit(), holdout=trees)
    assert verdict(limits, fixed_order={"candidate": {"overlap@50": 0.1}}).accepted
    ruling = verdict(limits, fixed_order={"candidate": {"overlap@50": 0.1}}, ranker=ranker)
    assert ruling.serves == "ranked" and len(ruling.refused) == 1
    assert "served lists: overlap@50 is 0.6000, above" in ruling.refused[0]


@pytest.mark.parametrize("candidate", [{"gini@50": nan}, {}, None])
@pytest.mark.parametrize("kind", ["floors", "ceilings"])
def test_a_limit_of_what_was_not_measured_is_not_kept(candidate, kind):
    (reason,) = verdict(gate(**{kind: {"gini@50": 0.5}}), candidate=candidate, users=0).refused
    assert "gini@50 is " in reason and f"gate.{kind}" in reason


def test_after_a_missing_day_nobody_knows_what_is_popular():
    """No version is refused for that, and it is said that it was not judged."""
    slices = {"users": {"0": {"users": 300, "recall@50": 0.1}}}
    ceilings = {"popular_share@50": 0.6, "popular_share@50/users:0": 0.6}
    ruling = verdict(gate(ceilings=ceilings), candidate={"recall@50": 0.2, "slices": slices})
    assert ruling.refused == ()
    about = [text for text in ruling.notes if "popular_share" in text]
    why = "the days before had no events, so no item is known to be popular"
    assert about == [f"the ceiling of 0.6 is not applied to {name}: {why}" for name in ceilings]
    assert verdict(gate(ceilings=ceilings), candidate=None).refused


@settings(deadline=None, max_examples=200)
@given(any_day(), st.sampled_from(["max_drop", "floor", "slice floor", "ceiling"]), share)
def test_a_stricter_limit_never_accepts_more(day_and_limits, which, by):
    day, limits = day_and_limits
    stricter = {**limits, "floors": {**limits["floors"]}, "ceilings": {**limits["ceilings"]}}
    if which in limits:
        stricter[which] = limits[which] * by
    elif which == "ceiling":
        stricter["ceilings"]["gini@50"] *= by
    else:
        name = "recall@50" if which == "floor" else "recall@50/users:0"
        stricter["floors"][name] += (1 - stricter["floors"][name]) * by
    assert len(verdict(gate(**stricter), **day).refused) >= len(
        verdict(gate(**limits), **day).refused
    )


def values(median: float) -> ValueRange:
    return ValueRange(low=0, tenth=median / 2, median=median, ninetieth=median * 2, high=median * 3)


def number(kind="count", distance=0.5, outside=0.3, trained=40.0, served=2.0) -> FeatureSkew:
    return FeatureSkew(
        feature="sold",
        kind=kind,
        distance=distance,
        outside=outside,
        trained=values(trained),
        served=values(served),
    )


def said(*features: FeatureSkew, **limits) -> list[str]:
    return [text for _, text in judge_skew(features, gate(**limits))]


@pytest.mark.parametrize(
    ("distance", "outside", "named"),
    [
        (0.3, 0.1, []),
        (0.31, 0.1, ["above 0.3"]),
        (0.3, 0.11, ["above 0.1"]),
        (0.9, 0.9, ["above 0.3", "above 0.1"]),
    ],
)
def test_only_values_beyond_a_limit_are_reported(distance, outside, named):
    texts = said(number(distance=distance, outside=outside))
    assert len(texts) == bool(named) and all(name in texts[0] for name in named)
    assert said(number(distance=distance, outside=outside), on_skew="ignore") == []


def test_a_feature_without_a_value_is_refused_if_more_than_chance_had_one():
    assert verdict(emptied={"kind": 4}).accepted and verdict().accepted
    refused = verdict(emptied={"kind": 5, "rare": 0})
    assert not refused.accepted and "kind" in refused.reason and "rare" not in refused.reason


def test_days_whose_items_are_not_in_the_corpus_are_refused_if_the_day_before_was_different():
    cases = [
        ((0.05, 0.5, 0.2, 0.2), False),
        ((0.05, 0.09, 0.2, 0.2), True),  # such a log: every day has new items
        ((0.11, 0.9, 0.2, 0.2), True),
        ((None, 0.9, None, None), True),
        ((0.5, 0.5, 0.0, 0.2), False),
        ((0.5, 0.5, 0.0, 0.0), True),
        ((0.5, 0.5, 0.0, 0.009), True),  # 4.5 of 500 users: they may have missed by chance
    ]
    measurable = MeasuredUsers(now=500, before=500, of=600)
    for figures, accepted in cases:
        judged = verdict(days_items=DaysItems(*figures), measurable=measurable)
        assert judged.accepted == accepted, figures
        assert ("written differently" in judged.reason) != accepted
