"""The page of a report, from published versions."""

import re
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index_builder import publish_stage
from index_builder.report.facts import Day, _names
from index_builder.report.page import render
from tests.index_builder.report.pages import FIRST, Page, changed, shown
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.gate_verdict import GateVerdict


def first_day(facts):
    nobody = {"users": 0, "days": 1, "baselines": {}}
    nobody |= dict.fromkeys(("candidate", "baseline", "change"))
    nothing = dict.fromkeys(("progressive", "frequency", "popularity"))
    measured = changed(facts.metrics, **nothing, fixed_order={}, holdout=nobody)
    day = Day(facts.manifest.date, "v", "this", measured, None, {})
    index = changed(facts.index, tried=[])
    nothing = dict.fromkeys(("previous", "order", "data"))
    facts = replace(facts, metrics=measured, days=[day], index=index, examples=[], **nothing)
    return replace(facts, gate=GateVerdict(accepted=True))


@pytest.mark.parametrize("change", [lambda facts: facts, first_day])
def test_the_page_needs_nothing_else(facts, change):
    page = shown(change(facts))
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    leads = ("href", "xlink:href", "src", "srcset")
    links = [v for _, a in page.elements for n, v in a.items() if n in leads]
    assert links and all(link.startswith("#") for link in links)
    html = render(change(facts)).decode()
    assert not re.findall(r"@import|https?:|url\((?!#)", html)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)


def test_what_was_measured_stands_there(facts):
    parts = shown(facts).parts
    assert "+25.0% (−1.0% to +25.0%) from 0.200" in parts[""]
    assert "2024-05-03 0.330 0.062 popular lately +428.0% 0.300 20" in parts["days"]
    assert "two-tower 0.125 0.250 0.083 0.062" in parts["lists"]
    assert "25.0% 50.0% 12.5% 75.0%" in parts["lists"]
    assert "1-4 10 0.110 0.100 0.025 0.031 0.015" in parts["slices"]
    assert "7 taken items were not in" in parts["slices"]
    assert "a factor of 1.25" in parts["learning"]
    assert "finds 0.9850 of the 10 exact neighbours; the target is 0.98" in parts["index"]
    assert "all 40 0.9900 700" in parts["index"] and "0.50 ms for one query" in parts["index"]
    assert "3 of 1,000 records were malformed and left out (0.30%)" in parts["data"]
    assert "• price: odd" in parts["data"] and "no time 3" in parts["data"]
    assert "Note: few users." in parts["gate"]
    few = changed(facts.metrics, train=changed(facts.metrics.train, warning="too few steps"))
    assert "Warning: too few steps" in shown(replace(facts, metrics=few)).parts["learning"]


def test_the_fixed_order_is_shown_next_to_other_lists(facts):
    parts = shown(facts).parts
    measured = (
        "logs whose users mostly take the same items again: purchase history 0.75, two-tower 0.25."
    )
    assert f"The fixed order is for {measured}" in parts["sources"]
    for served in ("served: fixed order 0.110 0.220", "served: fixed order 0.138 0.275"):
        assert served in parts["lists"]
    # Of held-out users of several days the order is not measured: theirs and its figures are not
    # of the same users.
    held = changed(facts.metrics.holdout, users=60, days=3)
    parts = shown(replace(facts, metrics=changed(facts.metrics, holdout=held))).parts
    assert "fixed order 0.138" not in parts["lists"]
    assert "The fixed order is" not in shown(replace(facts, order=None)).parts["sources"]


def test_the_first_line_says_what_is_served_and_what_alarms(facts):
    head = shown(facts).parts[""]
    assert "Live. 252.0% better than the best simple list, 1 alarm, 1 note." in head
    assert (
        "recall@50 over all 20 measured users of 2024-05-04: served 0.220, popular lately 0.062,"
        " two-tower alone 0.200. Lists: fixed order of the previous version" in head
    )
    quiet = replace(facts, data=None, gate=GateVerdict(accepted=True), goes_live=False)
    calm = "Accepted, not live. 252.0% better than the best simple list, no alarms."
    assert calm in shown(quiet).parts[""]


def test_what_changed_since_the_live_version(facts):
    new = facts.manifest.model_copy(
        update={"settings": {"train": {"epochs": 5, "dimension": 16, "skip": True}}}
    )
    part = shown(replace(facts, manifest=new)).parts["changes"]
    assert f"Compared with {facts.previous.manifest.version}, the version that was live" in part
    assert "train.epochs 3 5" in part and "train.skip – true" in part
    assert "features.user.kind id –" in part
    assert "train.dimension" not in part and "tensorflow" not in part
    assert "items 3 4 +33.3%" in part
    assert "3 items are new in the catalogue" in part
    assert "1 items are gone from the catalogue" in part
    assert "old Old one" in part and "An a" not in part
    assert "Settings: none changed" in shown(facts).parts["changes"]


@pytest.mark.parametrize(
    ("tuning", "text"),
    [
        ({"how": "inherited"}, "are inherited from v3; they were searched for on 1 May 2024"),
        ({"why": "recall was 0.9"}, "and tuned again for this version: recall was 0.9."),
        ({"why": "no v", "version": None}, "Its settings were searched for again: no v."),
        ({"why": "no v", "version": None, "kinds": []}, "4 items. It finds"),
    ],
)
def test_it_says_where_the_settings_of_the_index_come_from(facts, tuning, text):
    measured = {"how": "tuned", "version": "v3", "why": "", "searched": "2024-05-01", **tuning}
    measured = {"items": 4, "kinds": ["tree"], "work": 700} | measured
    index = changed(facts.index, tuning=measured, tried=facts.index.tried[:1])
    page = shown(replace(facts, index=index))
    assert text in page.parts["index"] and "No settings were tried" not in page.parts["index"]
    assert ("Its settings" in page.parts["index"]) == bool(measured["kinds"])
    assert "on half of the sampled users" in page.parts["index"]


def test_reasons_of_a_refusal(facts):
    reasons = ["recall@50 is 0.1000, below 0.1800", "the corpus is empty"]
    page = shown(
        replace(facts, goes_live=False, gate=changed(facts.gate, accepted=False, refused=reasons))
    )
    assert "Refused. 252.0% better" in page.parts[""] and "3 alarms, 1 note." in page.parts[""]
    assert all(f"• {reason}" in page.parts["gate"] for reason in reasons)


COMPARED = {"users": 1300, "candidate": 0.125, "baseline": 0.25, "change": -0.5}
COMPARED |= {"low": -0.6, "high": -0.4, "differ": 99}


def test_the_gate_shows_slices_and_limits(facts):
    limits = {"max_drop": 0.1, "min_users": 200}
    floors = {"recall@50/users:0": 0.0625}
    gate = {**limits, "floors": floors, "ceilings": {"overlap@50": 0.25, "served/overlap@50": 0.75}}
    slices = {
        "users:0": COMPARED,
        "users:1-4": {**COMPARED, "low": None, "high": None},
        "users:5+": {**COMPARED, "baseline": None},
    }
    judged = changed(facts.gate, figures={"slices": slices, "trees": COMPARED})
    part = shown(replace(facts, gate=judged, limits=GateConfig(**gate))).parts
    assert "0 1,300 0.250 0.125 −50.0% (−60.0% to −40.0%)" in part["gate"]
    assert "1-4 1,300 0.250 0.125 −50.0%" in part["gate"] and "5+" not in part["gate"]
    assert (
        "In slices of at least 200 users, a drop that is surely larger than 20% is refused"
        in part["gate"]
    )
    assert "recall@50/users:0 0.125 (0.000–0.250) ≥ 0.0625" in part["gate"]
    assert "overlap@50 0.125 ≤ 0.25" in part["gate"]
    assert "overlap@50 of the served lists 0.125 ≤ 0.75" in part["gate"]
    assert (
        "recall@50 of the ranker, 1,300 users 0.125, previous version 0.250: −50.0% (−60.0% to"
        " −40.0%) −10%, whole interval" in part["gate"]
    )


def test_a_name_as_long_as_a_page_is_cut():
    items = pa.table({"_item": ["a", "b"], "_name": ["x" * 20_000, None], "_popular": [2, 1]})
    file = BytesIO()
    pq.write_table(items, file)
    assert _names(file.getvalue()) == {"a": "x" * 119 + "…", "b": None}


def test_names_out_of_logs_are_text(facts):
    page = shown(facts)
    assert "A <b>bold</b> one & more ✓ b" in page.parts["examples"]
    assert "c gone" in page.parts["examples"], "what has no name, or has left, is shown by its id"


def test_the_days_before_are_in_it_and_those_after_are_not(
    context, pipeline, parent, registry, tmp_path
):
    days = [FIRST + timedelta(days=n) for n in range(4)]
    made = []
    for day, recall in zip(days, (0.2, 0.31, 0.05, 0.33), strict=True):
        made.append(context(day, recall=recall, parent=parent(pipeline, day)))
        publish_stage.run(made[-1])
    assert [e.action for e in registry.log()] == ["publish", "publish", "refuse", "publish"]
    last = page_of(registry, days[3], tmp_path)
    assert "2024-05-03 0.050 0.200 refused" in last.parts["days"]
    assert "2024-05-04 0.330 0.200 this" in last.parts["days"]
    assert (
        f"Compared with {registry.state().accepted[1]}, the version that was live"
        in last.parts["changes"]
    )
    # Once more, with a later day published: the same day over again is another version if its
    # content is.
    publish_stage.run(context(days[1], recall=0.32, parent=parent(pipeline, days[1]), seed=1))
    again = page_of(registry, days[1], tmp_path)
    assert "0.320" in again.parts["days"] and "0.310" not in again.parts["days"]
    assert "2024-05-04" not in again.parts["days"]


def page_of(registry, day, cache):
    """The report of the day's newest version."""
    version = max((s for s in registry.statuses() if s.date == day), key=lambda s: s.at).version
    return Page((registry.open(version, cache / "cache") / "report.html").read_text())
