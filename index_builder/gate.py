"""The gate: whether a version may go live. A pure function of measured figures.

    drop     `gate.metric` of the version against its baseline's, on the same users. Refused when the loss is beyond
             `gate.max_drop`, unless its interval, a paired one, reaches up to no loss at all: of 200 users a recall may
             lose a tenth by chance
    slices   the same of users by their earlier events. Refused when the whole interval is beyond `gate.max_slice_drop`:
             several are looked at day after day, so that only what is sure counts
    limits   `gate.floors` and `gate.ceilings`, whatever the baseline has
    index    its recall
    corpus   its size

Of too few users nothing is concluded; that is noted.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twinspire.measures import USERS, key, part
from twinspire.tables import Gate, Index

_LEAST_DIFFERENT = 10
"""Users whose two lists fare differently: of fewer in a slice, a bootstrap interval claims more than is known."""

_CHANCE = "; this may be chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of a version.

    Attributes:
      refused: reasons with their numbers; the version is accepted when there are none.
      notes: what could not be judged, and why.
      figures: what was compared; docs/artifact-format.md names them.
    """

    refused: tuple[str, ...]
    notes: tuple[str, ...]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against the version."""
        return not self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the gate judges.

    Attributes:
      candidate: measures of the version on users held out of training, or None if there were none.
      baseline: measures of the newest accepted version on the same queries, or None on the first day.
      change: how the former differs from the latter, by measure, as `model.evaluate.compare` tells it.
      users: how many users were held out.
      index_recall: share of the exact neighbours that the index finds, or None if that was not measured.
      items: size of the corpus.
      baseline_items: size of the baseline's corpus.
    """

    candidate: Mapping[str, Any] | None
    baseline: Mapping[str, Any] | None
    change: Mapping[str, Mapping[str, float]] | None = None
    users: int
    index_recall: float | None
    items: int
    baseline_items: int | None


class Finding(NamedTuple):
    """A sentence of the verdict, and whether it is a reason to refuse or a note."""

    refuses: bool
    text: str


class Compared(NamedTuple):
    """A measure of the version and of its baseline; None where something was not measured.

    Attributes:
      name: of the measure, that of a slice as in `recall@50/users:0`.
      users: whom it applies to.
      change: relative, -.1 for a tenth less.
      low, high: its interval.
      differ: users whose two lists differ in the measure.
    """

    name: str
    users: int
    candidate: float | None
    baseline: float | None
    change: float | None
    low: float | None
    high: float | None
    differ: int

    @property
    def told(self) -> str:
        """The change with its interval and its users, to end a sentence with."""
        if self.change is None:
            return ""
        span = f" (95%: {self.low:+.1%} to {self.high:+.1%})" if self.low is not None else ""
        return f": a change of {self.change:+.1%}{span} over {self.users} users, {self.differ} of whom fare differently"


def judge(measured: Measured, gate: Gate, index: Index) -> Verdict:
    """Compares a version with its baseline and with the limits of the pipeline file."""
    whole, slices = _compared(measured, gate.metric, measured.users), _slices(measured, gate.metric)
    found = [
        *_against_baseline(measured, gate, whole, slices),
        *_limits(measured, gate),
        *_below("index recall", measured.index_recall, index.recall_target, "index.recall_target"),
        *_corpus_change(measured, gate),
    ]
    return Verdict(
        refused=tuple(text for refuses, text in found if refuses),
        notes=tuple(text for refuses, text in found if not refuses),
        figures={
            "metric": gate.metric,
            **_figures(whole),
            "slices": {one.name.partition("/")[2]: _figures(one) for one in slices},
            "index_recall": _finite(measured.index_recall),
            "items": measured.items,
        },
    )


def _against_baseline(measured: Measured, gate: Gate, whole: Compared, slices: list[Compared]) -> Iterator[Finding]:
    if measured.users < gate.min_users:
        few = f"{measured.users} held-out users, gate.min_users is {gate.min_users}"
        yield Finding(False, f"not compared with the baseline: {few}")
    elif measured.baseline is None:
        yield Finding(False, "not compared with a baseline: no earlier version was accepted")
        yield from _below(gate.metric, whole.candidate, 0.0, "to be compared with later")
    else:
        yield from _drop(whole, gate)
        yield from _slice_drops(slices, gate)


def _drop(whole: Compared, gate: Gate) -> Iterator[Finding]:
    before = whole.baseline
    if before is None or not math.isfinite(before):
        why = "evaluation.ks must hold the k of gate.metric"
        yield Finding(True, f"{whole.name} of the baseline was not measured; {why}")
        return
    meaning = f"what gate.max_drop = {gate.max_drop:g} allows below the baseline's {before:.4f}"
    for _, text in _below(whole.name, whole.candidate, before * (1 - gate.max_drop), meaning):
        chance = whole.high is not None and whole.high >= 0
        yield Finding(not chance, text + whole.told + (_CHANCE if chance else ""))


def _slice_drops(slices: list[Compared], gate: Gate) -> Iterator[Finding]:
    few = [f"{one.name.partition('/')[2]} ({one.users})" for one in slices if one.users < gate.min_users]
    if few:
        less = f"fewer users than gate.min_users = {gate.min_users}"
        yield Finding(False, f"not compared in slices of {less}: {', '.join(few)}")
    for one in slices:
        if one.users >= gate.min_users and one.change is not None and one.change < -gate.max_slice_drop:
            sure = one.high is not None and one.high < -gate.max_slice_drop and one.differ >= _LEAST_DIFFERENT
            limit = f"gate.max_slice_drop = {gate.max_slice_drop:g} below the baseline's {one.baseline:.4f}"
            text = f"{one.name} is {one.candidate:.4f}, more than {limit}{one.told}"
            yield Finding(sure, text + ("" if sure else _CHANCE))


def _limits(measured: Measured, gate: Gate) -> Iterator[Finding]:
    for kind, limits, beyond in (("floor", gate.floors, _below), ("ceiling", gate.ceilings, _above)):
        for name, limit in limits.items():
            users = part(measured.candidate, name)[0].get("users", 0)
            if "/" in name and users < gate.min_users:
                few = f"{users} users, gate.min_users is {gate.min_users}"
                yield Finding(False, f"{name} is not held to its {kind} of {limit:g}: {few}")
            else:
                yield from beyond(name, _figure(measured.candidate, name), limit, f"its {kind} in gate.{kind}s")


def _below(name: str, value: float | None, least: float, meaning: str) -> Iterator[Finding]:
    if value is None or not math.isfinite(value):
        yield Finding(True, f"{name} is {_missing(value)}; it must reach {least:.4f}, {meaning}")
    elif value < least:
        yield Finding(True, f"{name} is {value:.4f}, below {least:.4f}, {meaning}")


def _above(name: str, value: float | None, most: float, meaning: str) -> Iterator[Finding]:
    if value is None or not math.isfinite(value):
        yield Finding(True, f"{name} is {_missing(value)}; it must not exceed {most:.4f}, {meaning}")
    elif value > most:
        yield Finding(True, f"{name} is {value:.4f}, above {most:.4f}, {meaning}")


def _missing(value: float | None) -> str:
    return "missing" if value is None else f"{value}, not a number"


def _corpus_change(measured: Measured, gate: Gate) -> Iterator[Finding]:
    if measured.items == 0:
        yield Finding(True, "the corpus is empty")
    elif measured.baseline_items:
        change = abs(measured.items / measured.baseline_items - 1)
        if change > gate.max_corpus_change:
            yield Finding(
                True,
                f"the corpus has {measured.items} items, the baseline's {measured.baseline_items}: "
                f"a change of {change:.0%}, above gate.max_corpus_change = {gate.max_corpus_change:.0%}",
            )


def _slices(measured: Measured, metric: str) -> list[Compared]:
    """What was measured of each slice of users, but for those without any."""
    slices = ((measured.candidate or {}).get("slices") or {}).get(USERS) or {}
    return [
        _compared(measured, key(metric, USERS, name), found["users"])
        for name, found in slices.items()
        if metric in found
    ]


def _compared(measured: Measured, name: str, users: int) -> Compared:
    told = (measured.change or {}).get(name) or {}
    candidate, baseline = (_figure(measures, name) for measures in (measured.candidate, measured.baseline))
    change, low, high = (told.get(x) for x in ("change", "low", "high"))
    return Compared(name, users, candidate, baseline, change, low, high, int(told.get("differ", 0)))


def _figures(one: Compared) -> dict[str, Any]:
    """As JSON can hold them."""
    return {name: _finite(value) for name, value in one._asdict().items() if name != "name"}


def _figure(measures: Mapping[str, Any] | None, name: str) -> float | None:
    where, measure = part(measures, name)
    value = where.get(measure)
    return None if value is None else float(value)


def _finite(value: float | None) -> float | None:
    """The value as JSON can hold it."""
    return value if value is not None and math.isfinite(value) else None
