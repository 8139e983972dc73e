"""What is wrong with a day's values that a column's type does not tell: ids that are missing, times
of another day, declared values that never occur.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest.late_events import DayBounds
from beam_jobs.ingest.timestamps import to_instants
from beam_jobs.partitioning.time_forms import TimeForm, forms_of
from beam_jobs.scaffold.day_sample import TableSample
from twinspire_core.config.pipeline import Pipeline

_MOST_MISPLACED = 0.5
_SHOWN = 6


class Remark(NamedTuple):
    """What is to say of a column's values.

    Attributes:
      is_error: whether a run would fail of it, or have nothing to learn from.
    """

    words: str
    is_error: bool


def share(part: int, total: int) -> str:
    """A share in words: 0% only where there is nothing."""
    if part == 0:
        return "0%"
    percent = 100 * part / total
    return f"{percent:.0f}%" if percent >= 1 else f"{part:,} ({max(percent, 0.01):.2g}%)"


def missing_ids(p: Pipeline, values: pl.Series) -> Remark | None:
    """Records without an id, which are rejected."""
    missing = int((values.is_null() | (values.cast(pl.String) == "")).sum())
    return _rejected(p, missing, len(values), "no id") if missing else None


def _rejected(p: Pipeline, bad: int, total: int, reason: str) -> Remark:
    too_many = bad > p.source.max_rejected * total
    words = f"{bad:,} of {total:,} records are rejected ({reason})"
    if too_many:
        words += f", more than source.max_rejected = {p.source.max_rejected:g} allows"
    return Remark(words, too_many)


def times(p: Pipeline, day: date, values: pl.Series) -> Remark | None:
    """Times in another unit or of another form than declared, and those of other days."""
    unit = p.columns.time_unit
    instants = to_instants(values, unit, p.zone)
    forms = forms_of(values)
    if forms and (forms[0].format or forms[0].unit not in (None, unit)):
        read = f"read in {unit} they are {_span(instants)}"
        likely = _remedy(forms[0])
        return Remark(f"times such as {values.drop_nulls()[0]!r}: {read}; {likely}", is_error=True)
    wrong = values.filter(instants.is_null())
    if len(wrong):
        remark = _rejected(p, len(wrong), len(values), "no time")
        written = wrong.drop_nulls()
        example = f", such as {written[0]!r}" if len(written) else ""
        advice = "; " + _remedy(forms[0]) if (forms := forms_of(written)) else ""
        return Remark(remark.words + example + advice, remark.is_error)
    bounds = DayBounds.of(p, day)
    elsewhere = int((~bounds.allow(instants)).sum())
    if not elsewhere:
        return None
    words = f"{share(elsewhere, len(values))} are of other days and left out: the times are {_span(instants)}"
    if elsewhere > _MOST_MISPLACED * len(values):
        words += ". Look at pipeline.time_zone, columns.time_unit and the folder's date"
        return Remark(words, is_error=True)
    return Remark(words, is_error=False)


def _remedy(form: TimeForm) -> str:
    if form.unit:
        return f'set columns.time_unit = "{form.unit}"'
    return f"`twinspire partition --time-format '{form.format}'` reads them"


def _span(instants: pl.Series) -> str:
    """From when to when the times are, in words."""
    clock = instants.cast(pl.Datetime("us")).sort().drop_nulls()
    if clock.is_empty():
        return "of no year"
    first, last = clock[0], clock[-1]
    return f"of {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def event_types(p: Pipeline, sample: TableSample) -> Remark | None:
    """Declared types of events that do not occur on the day."""
    assert p.columns.event is not None
    declared = dict.fromkeys([*p.columns.positives, *p.columns.weights])
    counts = _counts(sample.values_of(p.columns.event), declared)
    remark = _absent(declared, counts)
    if remark and p.columns.positives and not any(counts[kind] for kind in p.columns.positives):
        return Remark(f"no event is one of columns.positives: there is {remark.words}", True)
    return remark and Remark(f"of positives and weights there is {remark.words}", remark.is_error)


def filtered(p: Pipeline, sample: TableSample, column: str) -> Remark | None:
    """Values of `corpus.filter` that no item of the snapshot has."""
    values = sample.rows[column]
    wanted = p.corpus.filter[column]
    kind = values.dtype.inner if isinstance(values.dtype, pl.List) else values.dtype
    declared = [_text(value, kind) for value in wanted]  # type: ignore[arg-type]
    counts = _counts(sample.values_of(column), declared)
    remark = _absent(declared, counts)
    if remark and not any(counts[value] for value in declared):
        return Remark(f"no item passes corpus.filter: there is {remark.words}", True)
    return remark and Remark(f"of corpus.filter there is {remark.words}", remark.is_error)


def _text(value: object, kind: pl.DataType) -> str:
    """A value as one of a column of this type is spelled; to the filter, true is 1."""
    if isinstance(value, str):
        return value
    if kind == pl.Boolean or (isinstance(value, bool) and not kind.is_numeric()):
        return str(bool(value)).lower()
    is_whole = isinstance(value, int | float) and float(value).is_integer()
    return str(int(value)) if is_whole else str(value)  # type: ignore[call-overload]


def _counts(blocks: Iterable[pl.Series], declared: Collection[str]) -> Counter[str]:
    """How often each value occurs in the first blocks, up to that in which the last of the declared
    ones comes.
    """
    counts: Counter[str] = Counter()
    for values in blocks:
        flat = values.explode() if isinstance(values.dtype, pl.List) else values
        for value, n in flat.drop_nulls().value_counts().iter_rows():
            counts[_text(value, flat.dtype)] += n
        if all(counts[value] for value in declared):
            break
    return counts


def _absent(declared: Collection[str], counts: Counter[str]) -> Remark | None:
    """The declared values that do not occur; an error where one that does is spelled alike."""
    absent = [value for value in declared if not counts[value]]
    if not absent:
        return None
    others = {value.lower(): value for value, n in counts.items() if n and value not in declared}
    near = {value: get_close_matches(value.lower(), others, 1) for value in absent}
    named = [
        f"{value!r} (did you mean {others[near[value][0]]!r}?)" if near[value] else repr(value)
        for value in absent
    ]
    most = ", ".join(repr(value) for value, n in counts.most_common(_SHOWN) if n)
    return Remark(f"no {', '.join(named)}, but {most or 'nothing'}", any(near.values()))
