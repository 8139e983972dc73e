"""The headline: day after day, what users would have got."""

from collections.abc import Iterator

from index_builder.report import charts
from index_builder.report.charts import Series
from index_builder.report.facts import Day, Facts
from index_builder.report.report_blocks import Figure, Mark, Section
from twinspire_core.contracts.measures import Measures, value_of
from twinspire_core.display.figures import number
from twinspire_core.display.measured_lists import list_name
from twinspire_core.display.quality_tables import interval_of, interval_text
from twinspire_core.display.table import Table


def trend(facts: Facts) -> Section:
    """Each day's figures, with those of the lists that need no model."""
    known = [day for day in facts.days if day.metrics.progressive]
    text = [
        f"{facts.metric} of each day, by the version of the day before: it never saw the day. (A"
        " first version is trained up to its last day, measured on it, and then trained on it.) This"
        " is what users would have got, from the mix of sources where there is one, and the"
        " headline to watch."
    ]
    if not known:
        text.append(
            "There is no such figure yet, as it takes a version of an earlier day. The next day"
            " will have it."
        )
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
    series = [_series("two_tower", [day.metrics.progressive for day in days], facts.metric)]
    marks = [Mark("two_tower", "two-tower of the day before")]
    if any(day.metrics.mix.progressive for day in days):
        fused = [day.metrics.mix.progressive for day in days]
        series.append(_series("mix", fused, facts.metric))
        marks.append(Mark("mix", "its mix of sources"))
    if any(day.metrics.ranked_progressive for day in days):
        ranked = [day.metrics.ranked_progressive for day in days]
        series.append(_series("ranked", ranked, facts.metric))
        marks.append(Mark("ranked", "its ranker"))
    for name in _names(days):
        series.append(
            _series(
                name, [day.metrics.baselines.get(name) for day in days], facts.metric, dashed=True
            )
        )
        marks.append(Mark(name, list_name(name), "dash"))
    last = "; ".join(
        f"{mark.label} {number(one.values[-1])}" for mark, one in zip(marks, series, strict=True)
    )
    return Figure(
        title=f"{facts.metric} on each day, before it was trained on",
        svg=charts.by_day("trend", [d.day for d in days], series, facts.metric),
        alt=(
            f"Lines over {len(days)} days, {days[0].day} to {days[-1].day}. On the last day:"
            f" {last}."
        ),
        caption="All users of the day with a past. The band is the 95% interval over users.",
        legend=marks,
        table=_table(facts, days),
    )


def _names(days: list[Day]) -> list[str]:
    """The lists that need no model, of all days, each once."""
    return list(dict.fromkeys(name for day in days for name in day.metrics.baselines))


def _series(colour: str, lists: list[Measures | None], metric: str, dashed: bool = False) -> Series:
    values = [value_of(measures, metric) for measures in lists]
    # Bands of all lists would hide one another; the table has the baselines' figures.
    spans = [] if dashed else [interval_of(measures, metric) for measures in lists]
    return Series(colour=colour, values=values, spans=spans, dashed=dashed)


def _table(facts: Facts, days: list[Day]) -> Table:
    head = ["day", "two-tower"]
    columns = [[day.metrics.progressive for day in days]]
    if any(day.metrics.mix.progressive for day in days):
        head.append("mix")
        columns.append([day.metrics.mix.progressive for day in days])
    if any(day.metrics.ranked_progressive for day in days):
        head.append("ranker")
        columns.append([day.metrics.ranked_progressive for day in days])
    for name in _names(days):
        head.append(list_name(name))
        columns.append([day.metrics.baselines.get(name) for day in days])
    rows = [
        [str(day.day), *(number(value_of(measures, facts.metric)) for measures in row)]
        for day, *row in zip(days, *columns, strict=True)
    ]
    return Table(
        head=head,
        rows=rows[::-1],
        title=f"{facts.metric}, the newest day first",
    )


def _held_out(facts: Facts) -> Iterator[Figure]:
    """Each day's version beside its parent on the held-out users: what a day of training brings."""
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
    yield Figure(
        title=f"{facts.metric} of held-out users, after training",
        svg=charts.by_day("held-out", [day.day for day in days], series, facts.metric),
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
            title=f"{facts.metric} of held-out users, with 95% intervals",
        ),
    )
