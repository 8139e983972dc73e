"""Day after day: what was served, the best simple list, the two-tower."""

from collections.abc import Iterator
from itertools import pairwise

from index_builder.report import charts
from index_builder.report.charts import Series
from index_builder.report.facts import Day, Facts
from index_builder.report.report_blocks import Figure, Mark, Section
from index_builder.report.stage_outcomes import setting_text
from twinspire_core.contracts.manifest import counts_otherwise
from twinspire_core.contracts.measures import Measures, interval_of, value_of
from twinspire_core.display.figures import change_text, count, number
from twinspire_core.display.measured_lists import list_name
from twinspire_core.display.quality_tables import interval_text
from twinspire_core.display.table import Table


def trend(facts: Facts) -> Section:
    """Each day's figure of what was served, next to the best simple list and the two-tower."""
    known = [day for day in facts.days if day.served]
    text = [
        f"{facts.metric} of the lists that were served on each day, over all measured users. The"
        " version of the day before made them, so it never saw the day."
    ]
    if not known:
        text.append("There is no such figure yet: the next day's run measures the first one.")
    if len(known) == 1:
        text.append("It is the first such day: there is no line to draw yet.")
    figures = list(_held_out(facts))
    if len(known) > 1:
        figures.insert(0, _progressive(facts, known))
    return Section(
        anchor="days",
        title="Day by day",
        text=text,
        figures=figures,
        tables=[_table(facts, known)] if len(known) == 1 else [],
    )


def _progressive(facts: Facts, days: list[Day]) -> Figure:
    figures = [day.served for day in days if day.served]
    series = [
        Series(
            colour="served",
            values=[one.value for one in figures],
            spans=[one.interval for one in figures],
        ),
        Series(colour="simple", values=[one.simple_value for one in figures], dashed=True),
        Series(colour="two_tower", values=[one.two_tower for one in figures]),
    ]
    marks = [
        Mark("served", "served"),
        Mark("simple", "best simple list", "dash"),
        Mark("two_tower", "two-tower alone"),
    ]
    last = "; ".join(
        f"{mark.label} {number(one.values[-1])}" for mark, one in zip(marks, series, strict=True)
    )
    breaks = _breaks(days)
    return Figure(
        title=f"{facts.metric} of what was served on each day",
        svg=charts.by_day("trend", [d.day for d in days], series, facts.metric, list(breaks)),
        alt=(
            f"Lines over {len(days)} days, {days[0].day} to {days[-1].day}. On the last day: {last}."
        ),
        caption=" ".join(
            ["All measured users of the day; the band is the 95% interval.", *breaks.values()]
        ),
        legend=marks,
        table=_table(facts, days),
    )


def _breaks(days: list[Day]) -> dict[int, str]:
    """Places of the days whose figures do not compare with those of the days before, and why."""
    breaks = {}
    for place, (before, after) in enumerate(pairwise(days), 1):
        if changes := counts_otherwise(before.settings, after.settings):
            texts = [
                f"{name} was {setting_text(old)}, is {setting_text(new)}"
                for name, (old, new) in changes.items()
            ]
            breaks[place] = (
                f"From {after.day} on, figures count something else and do not compare with earlier"
                f" ones: {'; '.join(texts)}."
            )
    return breaks


def _table(facts: Facts, days: list[Day]) -> Table:
    rows = []
    for day in reversed(days):
        assert day.served, "days without a figure are left out"
        one = day.served
        simple = (
            f"{number(one.simple_value)} {list_name(one.simple)}" if one.simple else number(None)
        )
        change = change_text(one.change.change, one.change.low, one.change.high)
        values = [number(one.value), simple, change, number(one.two_tower), count(one.users)]
        rows.append([str(day.day), *values])
    return Table(
        head=["day", "served", "best simple list", "change", "two-tower", "users"],
        rows=rows,
        title=f"{facts.metric}, the newest day first",
        note=" ".join(_breaks(days).values()),
        sections=[len(days) - place for place in reversed(_breaks(days))],
    )


def _held_out(facts: Facts) -> Iterator[Figure]:
    """Each day's two-tower and its parent's on held-out users: what a day of training brings."""
    days = [day for day in facts.days if day.metrics.holdout.candidate]
    # One day is no line, and stands among the lists
    if len(days) < 2:
        return
    series = [
        _series("two_tower", [day.metrics.holdout.candidate for day in days], facts.metric),
        _series(
            "parent", [day.metrics.holdout.baseline for day in days], facts.metric, dashed=True
        ),
    ]
    rows = [
        [
            str(day.day),
            interval_text(day.metrics.holdout.candidate, facts.metric),
            interval_text(day.metrics.holdout.baseline, facts.metric),
            day.status,
        ]
        for day in reversed(days)
    ]
    breaks = _breaks(days)
    yield Figure(
        title=f"{facts.metric} of the two-tower on held-out users, after training",
        svg=charts.by_day("held-out", [d.day for d in days], series, facts.metric, list(breaks)),
        alt=(
            f"Lines over {len(days)} days. On the last day: the day's version"
            f" {number(series[0].values[-1])}, the version before it"
            f" {number(series[1].values[-1])}."
        ),
        caption=(
            "What the gate judges: users whose events of the day no version is trained on. They are"
            " fewer, so the bands are wider."
        ),
        legend=[
            Mark("two_tower", "the day's version"),
            Mark("parent", "the version before it", "dash"),
        ],
        table=Table(
            head=["day", "version", "the one before", "status"],
            rows=rows,
            title=f"{facts.metric} of the two-tower on held-out users, with 95% intervals",
        ),
    )


def _series(colour: str, lists: list[Measures | None], metric: str, dashed: bool = False) -> Series:
    values = [value_of(measures, metric) for measures in lists]
    # Bands of both would hide one another
    spans = [] if dashed else [interval_of(measures, metric) for measures in lists]
    return Series(colour=colour, values=values, spans=spans, dashed=dashed)
