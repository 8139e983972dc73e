"""The gate: whether a version may go live. A pure function of measured figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinspire.tables import Gate, Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of a version.

    Attributes:
      refused: reasons with their numbers; the version is accepted when there are none.
      notes: what could not be judged, and why.
      figures: what was compared.
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
      users: how many users were held out.
      index_recall: share of the exact neighbours that the index finds, or None if that was not measured.
      items: size of the corpus.
      baseline_items: size of the baseline's corpus.
    """

    candidate: Mapping[str, Any] | None
    baseline: Mapping[str, Any] | None
    users: int
    index_recall: float | None
    items: int
    baseline_items: int | None


def judge(measured: Measured, gate: Gate, index: Index) -> Verdict:
    """Compares a version with its baseline and with the floors of the pipeline file."""
    refused, notes = [], []
    if measured.users < gate.min_users:
        notes.append(
            f"not compared with the baseline: {measured.users} held-out users, gate.min_users is {gate.min_users}"
        )
    elif measured.baseline is None:
        notes.append("not compared with a baseline: no earlier version was accepted")
        refused += _below(gate.metric, _figure(measured.candidate, gate.metric), 0.0, "to be compared with later")
    else:
        refused += _falls(measured, gate)
    for name, floor in gate.floors.items():
        refused += _below(name, _figure(measured.candidate, name), floor, "its floor in gate.floors")
    refused += _below("index recall", measured.index_recall, index.recall_target, "index.recall_target")
    refused += _corpus_change(measured, gate)
    figures = {
        "metric": gate.metric,
        "candidate": _finite(_figure(measured.candidate, gate.metric)),
        "baseline": _finite(_figure(measured.baseline, gate.metric)),
        "users": measured.users,
        "index_recall": _finite(measured.index_recall),
        "items": measured.items,
    }
    return Verdict(refused=tuple(refused), notes=tuple(notes), figures=figures)


def _falls(measured: Measured, gate: Gate) -> list[str]:
    before = _figure(measured.baseline, gate.metric)
    if before is None or not math.isfinite(before):
        return [f"{gate.metric} of the baseline was not measured; evaluation.ks must hold the k of gate.metric"]
    least = before * (1 - gate.max_drop)
    return _below(gate.metric, _figure(measured.candidate, gate.metric), least, _allowed(before, gate.max_drop))


def _allowed(before: float, drop: float) -> str:
    return f"what gate.max_drop = {drop:g} allows below the baseline's {before:.4f}"


def _below(name: str, value: float | None, least: float, meaning: str) -> list[str]:
    if value is None or not math.isfinite(value):
        found = "missing" if value is None else f"{value}, not a number"
        return [f"{name} is {found}; it must reach {least:.4f}, {meaning}"]
    return [f"{name} is {value:.4f}, below {least:.4f}, {meaning}"] if value < least else []


def _corpus_change(measured: Measured, gate: Gate) -> list[str]:
    if measured.items == 0:
        return ["the corpus is empty"]
    if not measured.baseline_items:
        return []
    change = abs(measured.items / measured.baseline_items - 1)
    if change <= gate.max_corpus_change:
        return []
    return [
        f"the corpus has {measured.items} items, the baseline's {measured.baseline_items}: "
        f"a change of {change:.0%}, above gate.max_corpus_change = {gate.max_corpus_change:.0%}"
    ]


def _figure(measures: Mapping[str, Any] | None, name: str) -> float | None:
    value = measures.get(name) if measures else None
    return None if value is None else float(value)


def _finite(value: float | None) -> float | None:
    """The value as JSON can hold it."""
    return value if value is not None and math.isfinite(value) else None
