"""What the gate said, what is different from the version before, and what the version was made
from.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from index_builder.gate.limits import mix_limits, two_tower_limits
from index_builder.report.facts import Facts, Previous
from index_builder.report.report_blocks import NONE, Section, Table, change, count, measured, number
from twinspire_core.contracts.measures import Measures

_NAMED = 8


def verdict(facts: Facts) -> Section:
    """The gate's verdict, with reasons and numbers."""
    gate, held = facts.gate, facts.metrics.holdout
    accepted = gate.get("accepted")
    text = [
        (
            "The gate accepted this version."
            if accepted
            else "The gate refused this version, which is not live:"
        )
    ]
    text += [f"• {reason}" for reason in gate.get("refused") or []]
    text += [f"Note: {note}." for note in gate.get("notes") or []]
    figures, limits = gate.get("figures") or {}, facts.manifest.settings.get("gate") or {}
    target = facts.manifest.settings.get("index", {}).get("recall_target")
    rows = [
        [f"{facts.metric}, this version", measured(held.candidate, facts.metric), NONE],
        [f"{facts.metric}, the version before", measured(held.baseline, facts.metric), NONE],
        ["change", change_told(facts), _limit(limits.get("max_drop"), "−{:.0%}")],
        *_lead(figures, limits, facts.metric),
        *_mix(figures.get("mix") or {}, limits),
        *_limits(held.candidate, facts.metrics.mix.holdout.candidate, limits),
        ["held-out users", count(figures.get("users")), _limit(limits.get("min_users"), "≥ {:,}")],
        ["index recall", number(figures.get("index_recall"), 4), _limit(target, "≥ {:g}")],
        ["items", count(figures.get("items")), _limit(limits.get("max_corpus_change"), "±{:.0%}")],
    ]
    caption = "What was judged, and the limits; 95% intervals in brackets"
    table = Table(head=["", "measured", "limit"], rows=rows, caption=caption)
    return Section(
        anchor="gate",
        title="The gate",
        text=text,
        tables=[table, *_slices(facts, limits)],
        half=True,
    )


def _limits(
    two_tower: Measures | None, mix: Measures | None, limits: Mapping[str, Any]
) -> Iterator[list[str]]:
    """What has floors and ceilings, of the two-tower and then of the mix, where that was
    measured.
    """
    for kind, sign in (("floors", "≥"), ("ceilings", "≤")):
        of_both = limits.get(kind, {})
        for name, limit in two_tower_limits(of_both).items():
            yield [name, measured(two_tower, name), f"{sign} {limit:g}"]
        for name, limit in mix_limits(of_both).items() if mix else ():
            yield [f"{name} of the mix", measured(mix, name), f"{sign} {limit:g}"]


def _mix(mix: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[list[str]]:
    """The same of the mix, where both versions have one."""
    if mix.get("candidate") is not None and mix.get("baseline") is not None:
        told = f"{number(mix['candidate'])}, before {number(mix['baseline'])}: {_change(mix)}"
        yield [
            f"the mix, {count(mix['users'])} users",
            told,
            _limit(limits.get("max_drop"), "−{:.0%}"),
        ]


def _lead(
    figures: Mapping[str, Any], limits: Mapping[str, Any], metric: str
) -> Iterator[list[str]]:
    """How many times as much is found as by a list that saw the same day, and what it was for the
    versions before.
    """
    if lead := figures.get("lead"):
        before = lead["before"]
        line = f"; before {min(before):.2f} to {max(before):.2f}" if before else ""
        span = f" ({lead['low']:.2f} to {lead['high']:.2f})" if lead["low"] is not None else ""
        told = f"{lead['lead']:.2f} times {number(lead['popular_today'])}{span}{line}"
        name = f"{metric} beside what the day’s other users took most"
        yield [name, told, _limit(limits.get("max_lead_drop"), "−{:.0%} of the median before")]


def _slices(facts: Facts, limits: Mapping[str, Any]) -> Iterator[Table]:
    """How the gate's measure differs from the version before for users of each slice."""
    slices = (facts.gate.get("figures") or {}).get("slices") or {}
    rows = [
        [
            name.partition(":")[2],
            count(x["users"]),
            number(x["baseline"]),
            number(x["candidate"]),
            _change(x),
        ]
        for name, x in slices.items()
        if x["baseline"] is not None
    ]
    if rows:
        most, users = (
            _limit(limits.get("max_slice_drop"), "−{:.0%}"),
            _limit(limits.get("min_users"), "{:,}"),
        )
        said = (
            f"Refused where all of an interval is beyond {most}, in slices of {users} users or more"
        )
        head = ["earlier events", "users", "before", "now", "change"]
        yield Table(
            head=head, rows=rows, caption=f"{facts.metric} by users’ earlier events. {said}"
        )


def _limit(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


def change_told(facts: Facts) -> str:
    """The relative change of the gate's measure from the version before, with its interval."""
    found = facts.metrics.holdout.change_of(facts.metric)
    return _change_text(found.change, found.low, found.high)


def _change(found: Mapping[str, float]) -> str:
    return _change_text(found.get("change"), found.get("low"), found.get("high"))


def _change_text(relative: float | None, low: float | None, high: float | None) -> str:
    span = f" ({change(low)} to {change(high)})" if low is not None else ""
    return change(relative) + span


def changes(facts: Facts) -> Section:
    """What is different from the version that was live."""
    title, anchor, before = "What changed", "changes", facts.previous
    if before is None:
        text = ["Nothing was published before this version: there is nothing to compare with."]
        return Section(anchor=anchor, title=title, text=text)
    which = "the live version" if before.live else "the version it was trained on from"
    return Section(
        anchor=anchor,
        title=title,
        text=[f"Compared with {before.manifest.version}, {which} when this one was published."],
        tables=[_compared(facts, before), _settings(facts, before), *_items(facts, before)],
    )


def _compared(facts: Facts, before: Previous) -> Table:
    old, new = before.manifest, facts.manifest
    quality = [
        m.quality.get("candidate") if m.quality.get("metric") == facts.metric else None
        for m in (old, new)
    ]
    rows = [
        ["day", str(old.date), str(new.date), NONE],
        [
            f"{facts.metric}, each on its own day",
            number(quality[0]),
            number(quality[1]),
            _relative(*quality),
        ],
        ["index recall", *(number(m.quality.get("index_recall"), 4) for m in (old, new)), NONE],
        ["items", count(old.items), count(new.items), _relative(old.items, new.items)],
        ["width of vectors", str(old.dimension), str(new.dimension), NONE],
    ]
    rows += [
        [name, old.software.get(name, NONE), new.software.get(name, NONE), NONE]
        for name in sorted({*old.software, *new.software})
        if old.software.get(name) != new.software.get(name)
    ]
    caption = (
        "Held-out users of two days are different users on different days: "
        "the gate’s figures compare like with like"
    )
    return Table(head=["", "before", "now", "change"], rows=rows, caption=caption)


def _relative(old: float | None, new: float | None) -> str:
    return change(new / old - 1) if old and new is not None else NONE


def _settings(facts: Facts, before: Previous) -> Table:
    old, new = (dict(_flat(m.settings)) for m in (before.manifest, facts.manifest))
    rows = [
        [name, _text(old.get(name)), _text(new.get(name))]
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    ]
    if not before.manifest.settings:
        rows, caption = [], "Settings: the version before does not tell its own."
    else:
        caption = "Settings that changed" if rows else "Settings: none changed."
    return Table(head=["setting", "before", "now"], rows=rows, caption=caption)


def _flat(settings: Mapping[str, Any], start: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        path = f"{start}{name}"
        found += (
            _flat(value, f"{path}.") if isinstance(value, Mapping) and value else [(path, value)]
        )
    return found


def _items(facts: Facts, before: Previous) -> list[Table]:
    tables = []
    for title, these, others in (
        ("new in", facts.items, before.items),
        ("gone from", before.items, facts.items),
    ):
        found = [item for item in these if item not in others]
        if found:
            rows = [[item, these[item] or NONE] for item in found[:_NAMED]]
            more = f", of which the {_NAMED} most popular" if len(found) > _NAMED else ""
            caption = f"{count(len(found))} items are {title} the catalogue{more}"
            tables.append(Table(head=["item", "name"], rows=rows, caption=caption))
    return tables or [Table(head=[], rows=[], caption="The catalogue holds the same items.")]


def origin(facts: Facts) -> Section:
    """What the version was made from and with."""
    m = facts.manifest
    rows = [["version", m.version], ["parent", m.parent or "none: trained from scratch"]]
    if m.refreshes:
        rows += [["towers of", m.refreshes], ["catalogue of", str(m.corpus_date)]]
    rows += [[f"{stage}, working files", place] for stage, place in m.sources.items()]
    rows += [[name, text] for name, text in m.software.items()]
    settings = Table(
        head=["setting", "value"],
        rows=[[name, _text(value)] for name, value in _flat(m.settings)],
        caption="Settings of the pipeline file",
        folded=True,
    )
    return Section(
        anchor="origin",
        title="How it was made",
        tables=[Table(head=["", ""], rows=rows, caption="Working files and software"), settings],
        half=True,
    )


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
