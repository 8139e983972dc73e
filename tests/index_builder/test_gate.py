"""The gate's rules as cases, and as properties of any figures."""

import json
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.comparison import Pair
from index_builder.gate import Measured, Refreshed, judge, judge_refresh
from model.intervals import interval, resampled_means
from twinspire.tables import Gate, Index

GATE = Gate(metric="recall@50", max_drop=0.1, max_slice_drop=0.2, min_users=200, max_corpus_change=0.5)
INDEX = Index(recall_target=0.98)
GOOD = {
    "candidate": {"recall@50": 0.2, "coverage@50": 0.3},
    "baseline": {"recall@50": 0.2},
    "users": 500,
    "lead": {"recall@50": {"lead": 1.0, "low": 0.9, "high": 1.1, "popular_today": 0.2, "differ": 100}},
    "leads_before": [{"recall@50": x} for x in (0.9, 1.0, 1.1)],
    "index_recall": 0.99,
    "items": 1000,
    "baseline_items": 1000,
}


def verdict(gate=GATE, mix=None, **changes):
    """Of a good day with some figures changed; `mix` are those that are changed of the mix."""
    told = {**GOOD, **changes}
    lists = {name: told.pop(name, None) for name in ("candidate", "baseline", "change", "users", "lead")}
    lists["leads_before"] = told.pop("leads_before")
    return judge(Measured(two_tower=Pair(**lists), mix=Pair(**{**lists, **mix}) if mix else None, **told), gate, INDEX)


def gate(**changes):
    return Gate.model_validate({**GATE.model_dump(), **changes})


def changed(change, low, high, *, before=0.2, users=500, differ=100, where=""):
    """A version whose recall, of all or of a slice of users, is another than its baseline's."""

    def measures(recall):
        part = {"users": users, "recall@50": recall}
        return {"recall@50": 0.2, "slices": {"users": {where: part}}} if where else part

    told = {"change": change, "differ": differ, **({} if low is None else {"low": low, "high": high})}
    name = f"recall@50/users:{where}" if where else "recall@50"
    after, before = measures(before * (1 + change)), measures(before)
    return {"candidate": after, "baseline": before, "change": {name: told}}


def test_a_version_as_good_as_its_baseline_is_accepted():
    assert verdict().accepted and verdict().figures["baseline"] == 0.2 and verdict().notes == ()


@pytest.mark.parametrize(("recall", "accepted"), [(0.1801, True), (0.1799, False), (0.3, True)])
def test_a_tenth_may_be_lost_and_no_more(recall, accepted):
    """Where no interval says how sure a loss is."""
    found = verdict(candidate={"recall@50": recall})
    assert found.accepted == accepted
    if not accepted:
        assert "0.1799" in found.refused[0] and "0.1800" in found.refused[0] and "0.2000" in found.refused[0]


@pytest.mark.parametrize(
    ("change", "low", "high", "accepted", "noted"),
    [
        (-0.05, -0.09, -0.01, True, False),  # surely less, but less than a tenth
        (-0.12, -0.20, -0.04, False, False),  # more than a tenth, and surely a loss
        (-0.12, -0.20, -0.001, False, False),
        (-0.12, -0.27, 0.0, True, True),  # more than a tenth, which may be chance
        (-0.12, -0.40, 0.10, True, True),
        (-0.50, -0.60, -0.40, False, False),
        (0.30, 0.10, 0.50, True, False),
        (-0.0999, -0.4, 0.2, True, False),
    ],
)
def test_a_loss_is_refused_when_it_is_large_and_sure(change, low, high, accepted, noted):
    found = verdict(**changed(change, low, high))
    assert (found.accepted, bool(found.notes)) == (accepted, noted)
    for text in (*found.refused, *found.notes):
        said = (f"{0.2 * (1 + change):.4f}", "0.1800", "0.2000", f"{change:+.1%}", f"{low:+.1%}", f"{high:+.1%}", "500")
        assert all(one in text for one in said)
        assert ("may be chance" in text) == noted


@pytest.mark.parametrize(
    ("change", "low", "high", "users", "differ", "accepted", "noted"),
    [
        (-0.50, -0.70, -0.21, 300, 60, False, False),  # all of the interval is beyond a fifth
        (-0.50, -0.70, -0.20, 300, 60, True, True),  # not all of it
        (-0.15, -0.18, -0.12, 300, 60, True, False),
        (-1.00, -1.00, -1.00, 300, 9, True, True),  # nine users are no slice to conclude from
        (-1.00, -1.00, -1.00, 300, 10, False, False),
        (-1.00, -1.00, -1.00, 199, 60, True, True),
        (-1.00, None, None, 300, 60, True, True),
        (0.50, 0.20, 0.80, 300, 60, True, False),
    ],
)
def test_a_slice_is_refused_when_its_loss_is_surely_large(change, low, high, users, differ, accepted, noted):
    found = verdict(**changed(change, low, high, users=users, differ=differ, where="1-4"))
    assert (found.accepted, bool(found.notes)) == (accepted, noted)
    if not accepted:
        (reason,) = found.refused
        said = ("recall@50/users:1-4", f"{0.2 * (1 + change):.4f}", "0.2000", f"{low:+.1%}", f"{high:+.1%}", "300")
        assert all(one in reason for one in said)


def test_slices_of_too_few_users_are_named_with_their_numbers():
    few = {"0": {"users": 12, "recall@50": 0.0}, "1-4": {"users": 199, "recall@50": 0.1}}
    sliced = {"recall@50": 0.2, "slices": {"users": {**few, "5+": {"users": 289, "recall@50": 0.3}}}}
    (note,) = verdict(candidate=sliced, baseline=sliced).notes
    assert "users:0 (12), users:1-4 (199)" in note and "gate.min_users = 200" in note and "5+" not in note
    assert verdict(gate(min_users=12), candidate=sliced, baseline=sliced).notes == ()


def test_the_figures_tell_what_was_compared():
    of_all = {"change": 0.25, "low": -0.01, "high": 0.5, "differ": 50}
    part = {"users": 300, "recall@50": 0.1}
    empty = {"users": 0, "queries": 0}
    found = verdict(
        candidate={"recall@50": 0.25, "slices": {"users": {"0": empty, "1-4": part}, "items": {"0": part}}},
        baseline={"recall@50": 0.2, "slices": {"users": {"0": empty, "1-4": {**part, "recall@50": 0.1}}}},
        change={"recall@50": of_all, "recall@50/users:1-4": {"change": 0.0, "differ": 1}},
    ).figures
    assert found == {
        "metric": "recall@50",
        "candidate": 0.25,
        "baseline": 0.2,
        "users": 500,
        **of_all,
        "slices": {
            "users:1-4": {
                "users": 300,
                "candidate": 0.1,
                "baseline": 0.1,
                "change": 0.0,
                "low": None,
                "high": None,
                "differ": 1,
            }
        },
        "lead": {**GOOD["lead"]["recall@50"], "before": [0.9, 1.0, 1.1]},
        "mix": None,
        "index_recall": 0.99,
        "items": 1000,
    }


@pytest.mark.parametrize(("change", "accepted"), [((-0.12, -0.2, -0.04), False), ((-0.12, -0.27, 0.0), True)])
def test_the_mix_is_judged_too(change, accepted):
    found = verdict(mix=changed(*change))
    assert found.accepted == accepted and found.figures["mix"]["change"] == -0.12
    assert all(text.startswith("the mix: recall@50 is 0.1760") for text in (*found.refused, *found.notes))
    assert not verdict(mix=changed(-0.5, -0.7, -0.21, where="1-4")).accepted
    assert not verdict(**changed(-0.12, -0.2, -0.04), mix=changed(0.5, 0.4, 0.6)).accepted


@pytest.mark.parametrize("missing", ["candidate", "baseline"])
def test_no_mix_is_no_reason(missing):
    found = verdict(mix={**changed(-0.5, -0.6, -0.4), missing: None})
    assert found.accepted and found.notes == ()


def test_too_few_users_are_not_compared_and_that_is_said():
    found = verdict(candidate={"recall@50": 0.01}, users=199)
    assert found.accepted and "199" in found.notes[0] and "200" in found.notes[0]
    assert verdict(**changed(-1.0, -1.0, -1.0, where="0"), users=199).accepted


def test_the_first_version_has_nothing_to_be_compared_with():
    found = verdict(baseline=None, baseline_items=None)
    assert found.accepted and "no earlier version" in found.notes[0]
    assert [found.figures[x] for x in ("baseline", "change", "low", "high", "differ")] == [None] * 5


def test_as_many_users_as_needed_are_enough():
    assert not verdict(candidate={"recall@50": 0.01}, users=200).accepted


@pytest.mark.parametrize(("floor", "accepted"), [(0.29, True), (0.3, True), (0.31, False)])
def test_floors_hold_even_with_few_users(floor, accepted):
    assert verdict(gate(floors={"coverage@50": floor}), users=3).accepted == accepted


@pytest.mark.parametrize(("ceiling", "accepted"), [(0.8, True), (0.79, False)])
def test_ceilings_hold_what_is_shown_to_all(ceiling, accepted):
    candidate = {"recall@50": 0.2, "gini@50": 0.8, "overlap@50": 0.3}
    found = verdict(gate(ceilings={"gini@50": ceiling, "overlap@50": 0.3}), candidate=candidate, users=3)
    assert found.accepted == accepted
    if not accepted:
        assert found.refused == ("gini@50 is 0.8000, above 0.7900, its ceiling in gate.ceilings",)


@pytest.mark.parametrize(
    ("limits", "users", "refused", "noted"),
    [
        ({"floors": {"recall@50/users:0": 0.05}}, 200, 0, 0),
        ({"floors": {"recall@50/users:0": 0.07}}, 200, 1, 0),
        ({"floors": {"recall@50/users:0": 0.07}}, 199, 0, 1),
        ({"floors": {"recall@50/items:0": 0.02}}, 200, 1, 0),
        ({"floors": {"recall@50/items:1-4": 0.02}}, 200, 0, 1),  # of whom there are none
        ({"ceilings": {"popular_share@50/users:0": 0.5}}, 200, 1, 0),
        ({"ceilings": {"popular_share@50/users:0": 0.6}}, 200, 0, 0),
        ({"ceilings": {"popular_share@50/users:0": 0.5}}, 199, 0, 1),
    ],
)
def test_limits_of_a_slice(limits, users, refused, noted):
    newcomers = {"users": users, "recall@50": 0.06, "popular_share@50": 0.55}
    slices = {"users": {"0": newcomers}, "items": {"0": {"users": users, "recall@50": 0.01}}}
    found = verdict(gate(**limits, min_users=200), candidate={"recall@50": 0.2, "slices": slices}, baseline=None)
    about = [text for text in found.notes if "/" in text]
    assert (len(found.refused), len(about)) == (refused, noted)
    assert all(str(users) in text or "0 users" in text for text in about)


@pytest.mark.parametrize(
    ("limits", "changes", "refused"),
    [
        ({"floors": {"coverage@50": 0.1}}, {}, []),
        (
            {"floors": {"coverage@50": 0.2}},
            {},
            ["the mix: coverage@50 is 0.1500, below 0.2000, its floor in gate.floors"],
        ),
        ({"floors": {"coverage@50": 0.2, "mix/coverage@50": 0.1}}, {}, []),
        (
            {"floors": {"mix/coverage@50": 0.2}},
            {},
            ["the mix: coverage@50 is 0.1500, below 0.2000, its floor in gate.floors"],
        ),
        (
            {"ceilings": {"overlap@50": 0.5}},
            {},
            ["the mix: overlap@50 is 0.6000, above 0.5000, its ceiling in gate.ceilings"],
        ),
        ({"ceilings": {"overlap@50": 0.5, "mix/overlap@50": 0.7}}, {}, []),
        ({"floors": {"mix/recall@50/users:0": 0.2}}, {}, ["the mix: recall@50/users:0 is 0.1000, below"]),
        ({"floors": {"mix/recall@50/users:1-4": 0.2}}, {}, []),  # of whom there are none
        ({"floors": {"gini@50": 0.2}}, {}, ["gini@50 is missing", "the mix: gini@50 is missing"]),
        ({"floors": {"coverage@50": 0.2}}, {"users": 199}, []),
        ({"floors": {"coverage@50": 0.2}}, {"candidate": None}, []),
    ],
)
def test_limits_hold_for_the_mix_too(limits, changes, refused):
    """Its lists cover less than the two-tower's, and have more in common."""
    slices = {"users": {"0": {"users": 300, "recall@50": 0.1}}}
    own = {"recall@50": 0.3, "coverage@50": 0.15, "overlap@50": 0.6, "slices": slices}
    candidate = {"recall@50": 0.2, "coverage@50": 0.3, "overlap@50": 0.2}
    found = verdict(gate(**limits), candidate=candidate, mix={"candidate": own, "users": 500, **changes})
    assert len(found.refused) == len(refused)
    assert all(text.startswith(one) for text, one in zip(found.refused, refused, strict=True))
    assert not any("mix/" in text for text in (*found.refused, *found.notes)), "that is no measure of the two-tower"
    why = {"users": "199 held-out users of the day itself", "candidate": "fitted on the users held out"}
    for what in changes:
        assert any(why[what] in text for text in found.notes), "what was not judged is said"


def test_without_limits_or_a_mix_there_is_nothing_to_say_of_them():
    assert (
        verdict(mix={"users": 199, "candidate": None}).notes == verdict(gate(floors={"coverage@50": 0.2})).notes == ()
    )


@pytest.mark.parametrize("candidate", [{"recall@50": nan}, {"recall@50": inf}, {}, None])
@pytest.mark.parametrize("baseline", [{"recall@50": 0.2}, None])
@pytest.mark.parametrize("change", [{}, {"recall@50": {"change": -0.5, "low": -0.9, "high": 0.1}}])
def test_what_was_not_measured_is_not_accepted(candidate, baseline, change):
    found = verdict(candidate=candidate, baseline=baseline, change=change)
    assert len(found.refused) == 1 and "recall@50" in found.refused[0]
    json.dumps(found.figures, allow_nan=False)


@pytest.mark.parametrize("candidate", [{"gini@50": nan}, {}, None])
@pytest.mark.parametrize("kind", ["floors", "ceilings"])
def test_a_limit_of_what_was_not_measured_is_not_kept(candidate, kind):
    (reason,) = verdict(gate(**{kind: {"gini@50": 0.5}}), candidate=candidate, users=0).refused
    assert "gini@50 is " in reason and f"gate.{kind}" in reason


@pytest.mark.parametrize("baseline", [{"recall@50": nan}, {"recall@10": 1.0}])
def test_a_baseline_that_was_not_measured_is_told(baseline):
    assert not verdict(baseline=baseline).accepted


@pytest.mark.parametrize("recall", [0.9799, nan, None])
def test_the_index_reaches_its_target(recall):
    assert not verdict(index_recall=recall).accepted


@pytest.mark.parametrize(("items", "accepted"), [(1500, True), (1501, False), (499, False), (0, False)])
def test_a_corpus_that_jumps_is_refused(items, accepted):
    assert verdict(items=items).accepted == accepted


def test_all_reasons_are_given():
    limits = gate(floors={"recall@50": 0.1}, ceilings={"gini@50": 0.1})
    found = verdict(limits, candidate={"recall@50": 0.0, "gini@50": 0.9}, index_recall=0.5, items=1)
    assert len(found.refused) == 5


share = st.floats(0, 1)
sizes = st.sampled_from([0, 150, 199, 200, 5000])


@st.composite
def any_day(draw):
    """A version, its baseline and how sure the difference is, with one slice; and the limits."""

    def difference():
        low, change, high = sorted(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
        return change, low, high

    of_all, users, differ = changed(*difference(), before=draw(share)), draw(sizes), draw(st.integers(0, 50))
    part = changed(*difference(), before=draw(share), users=draw(sizes), differ=differ, where="0")
    day = {
        "candidate": {**of_all["candidate"], "gini@50": draw(share), "slices": part["candidate"]["slices"]},
        "baseline": {**of_all["baseline"], "slices": part["baseline"]["slices"]},
        "change": {**of_all["change"], **part["change"]},
        "users": users,
    }
    limits = {"max_drop": draw(share), "max_slice_drop": draw(share)}
    floors = {"recall@50": draw(share), "recall@50/users:0": draw(share)}
    return day, {**limits, "floors": floors, "ceilings": {"gini@50": draw(share)}}


def worse(day, factor, where=""):
    """The day with a share of the recall lost, of all or of the slice."""
    name = f"recall@50/{where}" if where else "recall@50"

    def shrunk(measures):
        return {**measures, "recall@50": measures["recall@50"] * factor}

    after = day["candidate"]
    if where:
        slices = {"users": {"0": shrunk(after["slices"]["users"]["0"])}}
        after = {**after, "slices": slices}
    else:
        after = shrunk(after)
    told = day["change"][name]
    less = {k: (1 + told[k]) * factor - 1 for k in ("change", "low", "high")}
    return {**day, "candidate": after, "change": {**day["change"], name: {**told, **less}}}


@settings(deadline=None, max_examples=200)
@given(any_day(), share, st.sampled_from(["", "users:0"]))
def test_losing_more_never_turns_a_refusal_into_acceptance(day_and_limits, factor, where):
    day, limits = day_and_limits
    before, after = verdict(gate(**limits), **day), verdict(gate(**limits), **worse(day, factor, where))
    assert len(after.refused) >= len(before.refused)


@settings(deadline=None, max_examples=200)
@given(any_day(), st.sampled_from(["max_drop", "max_slice_drop", "floor", "slice floor", "ceiling"]), share)
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
    assert len(verdict(gate(**stricter), **day).refused) >= len(verdict(gate(**limits), **day).refused)


@settings(deadline=None, max_examples=200)
@given(any_day())
def test_what_is_refused_can_be_written_down(day_and_limits):
    day, limits = day_and_limits
    found = verdict(gate(**limits), **day)
    json.dumps(found.figures, allow_nan=False)
    assert not any("nan" in text or "None" in text for text in (*found.refused, *found.notes))


def test_chance_alone_is_seldom_refused():
    """250 users a day, 3 of 10 of whom find something, by two versions that are equally good: 400 days."""
    rng, refused, large = np.random.default_rng(7), 0, 0
    for _ in range(400):
        found = (rng.random((2, 250)) < 0.3).astype(float)
        after, before = (resampled_means({"x": x}, np.arange(250), 100)["x"] for x in found)
        low, high = interval(after / before - 1)
        change = found[0].mean() / found[1].mean() - 1
        told = changed(change, low, high, before=found[1].mean(), users=250)
        refused += not verdict(**told).accepted
        large += change < -0.1
        assert verdict(**changed(change, low, high, before=found[1].mean(), users=250, where="0")).accepted
    assert refused < 0.05 * 400 and large > 0.15 * 400


def refreshed(**changes):
    told = {"index_recall": 0.99, "items": 1000, "before": 1000, "new": 10, "withdrawn": 10}
    quality = {"metric": "recall@50", "candidate": 0.01, "baseline": 0.5, "index_recall": 0.5, "items": 7}
    return judge_refresh(Refreshed(trained="2017-10-01-abc", **{**told, **changes}), quality, GATE, INDEX)


def test_a_refresh_is_not_judged_by_what_its_towers_were():
    found = refreshed()
    assert found.accepted and "2017-10-01-abc" in found.reason
    told = {"metric": "recall@50", "candidate": 0.01, "baseline": 0.5, "index_recall": 0.99, "items": 1000}
    assert found.figures == told, "the towers' figures, and its own"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"index_recall": 0.979}, "index recall"),
        ({"index_recall": None}, "index recall"),
        ({"withdrawn": 501, "items": 509}, "501 items are gone from the 1,000 before"),
        ({"new": 501, "items": 1491}, "501 items are not in the 1,000 before"),
        ({"withdrawn": 501, "new": 501}, "gone from"),  # of the same size, and another one
    ],
)
def test_a_refresh_is_held_to_its_index_and_to_how_much_is_exchanged(changes, said):
    found = refreshed(**changes)
    assert not found.accepted and any(said in reason for reason in found.refused) and said in found.reason
    assert refreshed(withdrawn=500, new=500).accepted
