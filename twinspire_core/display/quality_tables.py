"""Measures as text, and the tables that show measured lists beside one another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures, interval_of, value_of
from twinspire_core.display.measured_lists import (
    EvaluatedSet,
    MeasuredLists,
    held_out,
    kind_text,
    of_other_kind,
    on_the_day,
)
from twinspire_core.display.table import Cell, Row, Table, in_style, interval, number, share
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT

_MEASURES = {"ndcg": "nDCG", "hit_rate": "hit rate", "mrr": "MRR", "popular_share": "popular share"}
_SHARES = ("coverage", "gini", "overlap", "popular_share")
"""Measures that are shown in percent."""


def heading(measure: str) -> str:
    """What a column of a measure is headed with.

    Example:
      >>> heading("hit_rate@10")
      'hit rate@10'
    """
    name, at, k = measure.partition("@")
    return _MEASURES.get(name, name) + at + k


def measure_text(measures: Measures | None, measure: str, digits: int = 3) -> str:
    """A measure as text, in percent where it is a share of something."""
    value = value_of(measures, measure)
    if measure.partition("@")[0] in _SHARES:
        return share(value, digits - 2)
    return number(value, digits)


def interval_text(measures: Measures | None, measure: str) -> str:
    """A measure with its interval in brackets, where there is one. Shares are not in percent: they
    stand beside limits of pipeline files.
    """
    text = number(value_of(measures, measure))
    ends = interval_of(measures, measure)
    if ends is None:
        return text
    return f"{text} ({interval(ends)})"


def lists_table(
    lists: Iterable[MeasuredLists],
    measures: Mapping[str, str],
    *,
    title: str = "",
    folded: bool = False,
) -> Table:
    """Lists by measures: a row for each list.

    Args:
      lists: measured on the same queries.
      measures: headings of the columns, by measure.
      title: what the table shows.
      folded: shown only when it is asked for.
    """
    rows = _rows(lists, measures)
    return Table(head=["", *measures.values()], rows=rows, title=title, folded=folded)


def sets_table(sets: Sequence[EvaluatedSet], measures: Sequence[str], note: str = "") -> Table:
    """Lists by measures, of several sets of queries: a section for each set, of the lists that
    count; behind them one for each of the others, which are marked.

    Args:
      sets: those without lists are left out.
      measures: a column each.
      note: what is to be said besides who was asked.
    """
    known = [one for one in sets if one.lists]
    others = [replace(one, name=f"{one.name} *") for one in map(of_other_kind, known)]
    rows: list[Row] = []
    starts = []
    for one in [*known, *(one for one in others if one.lists)]:
        starts.append(len(rows))
        # The set's name stands in the first of its rows alone
        names = [one.name, *[""] * (len(one.lists) - 1)]
        for name, row in zip(names, _rows(one.lists, measures), strict=True):
            rows.append([name, *row])
    notes = [f"{one.name}: {one.text}" for one in known if one.text]
    if known:
        notes.append(_kinds_text(known))
    if note:
        notes.append(note)
    head = ["on", "list", *map(heading, measures)]
    return Table(head=head, rows=rows, note="\n".join(notes), names=(0, 1), sections=starts[1:])


def _kinds_text(sets: Sequence[EvaluatedSet]) -> str:
    """Which lists count, and which are the others."""
    counted = sets[0].lists[0].measures.kind
    other = KEPT if counted == EXCLUDED else EXCLUDED
    text = f"What counts, here and for the gate, are lists {kind_text(counted)}"
    return f"{text}; * {kind_text(other)} (serving.exclude_seen)."


def quality_table(
    metrics: DayMetrics,
    day: date,
    ks: Sequence[int],
    *,
    serves_before: str | None = None,
    serves: str | None = None,
) -> Table:
    """What was measured on a day.

    Args:
      metrics: of the day.
      day: the day.
      ks: list lengths, `evaluation.ks`.
      serves_before: what the gate let the version before serve.
      serves: what it lets the day's version serve.
    """
    sets = [on_the_day(metrics, day, serves_before), held_out(metrics, day, serves)]
    return sets_table(sets, headline(ks))


def headline(ks: Sequence[int]) -> list[str]:
    """The measures by which lists are compared at a glance.

    Args:
      ks: list lengths, `evaluation.ks`.
    """
    recalls = [f"recall@{k}" for k in ks]
    return [*recalls, f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", f"coverage@{max(ks)}"]


def _rows(lists: Iterable[MeasuredLists], measures: Iterable[str]) -> list[list[Cell]]:
    names = list(measures)
    return [
        in_style([one.label, *(measure_text(one.measures, name) for name in names)], one.row_style)
        for one in lists
    ]
