"""The gate on logs that change by the day, where the baseline says little: the lead, as cases and
in made-up days.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.gate.verdict import JudgedVersion, judge
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.metrics.bootstrap import interval, resampled_means

GATE = GateConfig(max_lead_drop=0.3, min_users=200)
BEFORE = (1.0, 1.2, 1.4)  # the median is 1.2, and 0.84 must be reached


def led(lead, low=None, high=None, *, differ=100):
    span = {} if low is None else {"low": low, "high": high}
    return {"recall@50": {"lead": lead, "popular_today": 0.25, "differ": differ, **span}}


def verdict(lead, before=BEFORE, gate=GATE, *, baseline=0.1, change=None, users=500):
    """Of a version that is better than its baseline."""
    leads = [{"recall@50": x} for x in before]
    change = change or {"recall@50": {"change": 1.0, "low": 0.8, "high": 1.2, "differ": 100}}
    told = {
        "candidate": {"recall@50": 0.2},
        "baseline": baseline and {"recall@50": baseline},
        "change": change,
    }
    measured = JudgedVersion(
        two_tower=HeldOutMeasures(**told, lead=lead, users=users),
        lifts_before=leads,
        index_recall=1.0,
        items=100,
        baseline_items=100,
    )
    return judge(measured, gate, IndexConfig())


@pytest.mark.parametrize(
    ("lead", "low", "high", "differ", "accepted", "noted"),
    [
        (1.3, 1.2, 1.4, 100, True, False),
        (0.85, 0.80, 0.90, 100, True, False),  # surely below all before, but not by so much
        (0.83, 0.70, 0.99, 100, False, False),  # far below their median, and surely below each
        (0.83, 0.60, 1.00, 100, True, True),  # one of them may have been as low
        (0.60, 0.55, 0.65, 100, False, False),
        (0.60, 0.55, 0.65, 10, False, False),
        (0.60, 0.55, 0.65, 9, True, True),  # nine users are too few for an interval
        (0.60, None, None, 100, True, True),
        (9.99, 9.00, 11.0, 100, True, False),
    ],
)
def test_a_lead_is_refused_when_it_is_far_and_surely_below_those_before(
    lead, low, high, differ, accepted, noted
):
    found = verdict(led(lead, low, high, differ=differ))
    assert (found.accepted, bool(found.notes)) == (accepted, noted)
    for text in (*found.refused, *found.notes):
        said = [
            f"{lead:.2f} times the 0.2500",
            "500",
            "3 versions before",
            "1.00 to 1.40",
            "1.20",
            "max_lead_drop = 0.3",
        ]
        said += [f"{low:.2f} to {high:.2f}"] if low else []
        assert all(one in text for one in said) and ("may be chance" in text) == noted
    assert found.figures.lead.before == list(BEFORE) and found.figures.lead.lead == lead


@pytest.mark.parametrize(
    ("lead", "before", "said"),
    [
        (
            led(0.1, 0.0, 0.2),
            BEFORE[:2],
            "0.10, is not compared: of 2 versions before it is known, 3 are needed",
        ),
        (led(0.1, 0.0, 0.2), (1.0, float("nan"), 1.0), "of 2 versions before"),
        (None, BEFORE, "gate.min_users = 200 held-out users of the day itself"),
        ({}, BEFORE, "was not measured"),  # as popular_today finds nothing
        ({"recall@10": led(0.1)["recall@50"]}, BEFORE, "was not measured"),
    ],
)
def test_what_cannot_be_judged_is_said(lead, before, said):
    found = verdict(lead, before)
    assert found.accepted and len(found.notes) == 1 and said in found.notes[0]
    json.dumps(found.figures.model_dump(), allow_nan=False)
    assert verdict(lead, before, GateConfig(max_lead_drop=1)).notes == ()


def test_of_few_users_and_without_a_baseline_one_note_is_enough():
    assert (
        len(verdict(led(0.1, 0.0, 0.2), users=199).notes)
        == len(verdict(None, baseline=None).notes)
        == 1
    )


leads = st.floats(0, 5)


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(leads, leads, leads),
    st.lists(leads, min_size=3, max_size=7),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_losing_more_or_a_stricter_limit_never_accepts_more(three, before, by, limit):
    low, lead, high = sorted(three)
    gate = GateConfig(max_lead_drop=limit)
    refused = len(verdict(led(lead, low, high), before, gate).refused)
    assert len(verdict(led(lead * by, low * by, high * by), before, gate).refused) >= refused
    assert (
        len(verdict(led(lead, low, high), before, GateConfig(max_lead_drop=limit * by)).refused)
        >= refused
    )


def test_on_news_half_a_version_beats_its_baseline_and_is_refused():
    """Days that differ in how easy they are and by a tenth in the lead; the baseline finds a third
    of what it could.
    """
    rng, refused, passed = np.random.default_rng(5), {1.0: 0, 0.5: 0}, 0
    for _ in range(60):
        of_day = np.clip(rng.uniform(0.3, 0.6, 8), 0, 1)
        before = np.exp(rng.normal(0, 0.1, 8))
        for worth in refused:
            shares = of_day[0] * before[0] * worth, of_day[0], of_day[0] * before[0] / 3
            version, today, parent = ((rng.random(300) < share).astype(float) for share in shares)
            again = resampled_means({"v": version, "t": today, "p": parent}, np.arange(300), 200)
            (low, high), of_parent = (
                interval(again["v"] / again["t"]),
                interval(again["v"] / again["p"] - 1),
            )
            lead, change = version.mean() / today.mean(), version.mean() / parent.mean() - 1
            told = {"change": change, "low": of_parent[0], "high": of_parent[1], "differ": 100}
            by_parent = verdict(
                led(lead, low, high),
                before[1:],
                GateConfig(max_lead_drop=1),
                change={"recall@50": told},
            )
            passed += by_parent.accepted
            refused[worth] += not verdict(
                led(lead, low, high), before[1:], change={"recall@50": told}
            ).accepted
    assert passed == 120, "none is worse than its parent"
    assert refused[1.0] <= 1 and refused[0.5] >= 54
