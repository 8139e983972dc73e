"""The version's quality: day by day, its lists side by side, by slice, and what orders them."""

from collections.abc import Sequence
from itertools import pairwise

from index_builder.report import charts
from index_builder.report.facts import Day, Facts, Figure, Mark, Section
from index_builder.report.making_sections import setting_text
from twinspire_core.contracts.measures import Measures, interval_of, value_of
from twinspire_core.contracts.version_manifest import counts_otherwise
from twinspire_core.display.quality_tables import (
    PARENT,
    MeasuredLists,
    baselines,
    describe_order,
    describe_ranker,
    heading,
    interval_text,
    kind_text,
    list_name,
    lists_table,
    sets_table,
)
from twinspire_core.display.table import Table, change_text, count, number, share
from twinspire_core.metrics.measure_names import ITEMS, USERS, key

_VARIETY = ("coverage", "gini", "overlap", "popular_share")
_SHOWN_FEATURES = 12  # how many features of the ranker are shown


def trend(facts: Facts) -> Section:
    """The served lists of each day, next to the best simple list and the two-tower alone."""
    measured = [day for day in facts.days if day.served]
    text = [
        f"{facts.metric} of the lists that were served on each day, over all measured users. The"
        " previous day's version made them, before it saw the day."
    ]
    if not measured:
        text.append("There is no figure yet. The run of the next day measures the first one.")
    elif len(measured) == 1:
        text.append("A chart needs two measured days; so far there is one.")
    held_out = [day for day in facts.days if day.metrics.holdout.candidate]
    return Section(
        anchor="days",
        title="Day by day",
        text=text,
        # A line needs two days. The section on lists has the held-out users of a single day.
        figures=[
            *([trend_figure(measured, facts.metric)] if len(measured) > 1 else []),
            *([_held_out(facts, held_out)] if len(held_out) > 1 else []),
        ],
        tables=[_table(measured, facts.metric)] if len(measured) == 1 else [],
    )


def trend_figure(days: Sequence[Day], metric: str) -> Figure:
    """The served lists next to the best simple list, over at least two days with a figure."""
    figures = [day.served for day in days if day.served]
    series = [
        charts.Series(
            colour="served",
            values=[figure.value for figure in figures],
            spans=[figure.interval for figure in figures],
        ),
        charts.Series(
            colour="simple", values=[figure.simple_value for figure in figures], dashed=True
        ),
        charts.Series(colour="two_tower", values=[figure.two_tower for figure in figures]),
    ]
    marks = [
        Mark("served", "served"),
        Mark("simple", "best simple list", "dash"),
        Mark("two_tower", "two-tower alone"),
    ]
    last = "; ".join(
        f"{mark.label} {number(line.values[-1])}" for mark, line in zip(marks, series, strict=True)
    )
    breaks = _breaks(days)
    return Figure(
        title=f"{metric} of the served lists by day",
        svg=charts.by_day("trend", [d.day for d in days], series, metric, list(breaks)),
        alt=(
            f"Lines over {len(days)} days, {days[0].day} to {days[-1].day}. On the last day: {last}."
        ),
        caption=" ".join(
            ["All measured users of the day; the band is the 95% interval.", *breaks.values()]
        ),
        legend=marks,
        table=_table(days, metric),
    )


def _breaks(days: Sequence[Day]) -> dict[int, str]:
    """Why figures cannot be compared with those of earlier days, by the position of the day."""
    breaks = {}
    for position, (before, after) in enumerate(pairwise(days), 1):
        texts = [
            f"{name} was {setting_text(old)}, is {setting_text(new)}"
            for name, (old, new) in counts_otherwise(before.settings, after.settings).items()
        ]
        if texts:
            breaks[position] = (
                f"Figures from {after.day} on cannot be compared with earlier ones, because settings"
                f" changed: {'; '.join(texts)}."
            )
    return breaks


def _table(days: Sequence[Day], metric: str) -> Table:
    rows = []
    for day in reversed(days):
        assert day.served, "days without a figure are left out"
        figure = day.served
        simple = f" {list_name(figure.simple)}" if figure.simple else ""
        rows.append(
            [
                str(day.day),
                number(figure.value),
                f"{number(figure.simple_value)}{simple}",
                change_text(figure.change.change, figure.change.low, figure.change.high),
                number(figure.two_tower),
                count(figure.users),
            ]
        )
    # The newest day is the first row, so breaks count from the end.
    breaks = _breaks(days)
    return Table(
        head=["day", "served", "best simple list", "change", "two-tower", "users"],
        rows=rows,
        title=f"{metric}, the newest day first",
        note=" ".join(breaks.values()),
        sections=[len(days) - position for position in reversed(breaks)],
    )


def _held_out(facts: Facts, days: list[Day]) -> Figure:
    """Each day's two-tower and its parent on held-out users: the gain of a day of training."""
    metric = facts.metric
    candidates = [day.metrics.holdout.candidate for day in days]
    parents = [day.metrics.holdout.baseline for day in days]
    series = [
        charts.Series(
            colour="two_tower",
            values=[value_of(measures, metric) for measures in candidates],
            spans=[interval_of(measures, metric) for measures in candidates],
        ),
        # Without a band: two bands would hide each other.
        charts.Series(
            colour="parent",
            values=[value_of(measures, metric) for measures in parents],
            dashed=True,
        ),
    ]
    rows = [
        [str(day.day), interval_text(candidate, metric), interval_text(parent, metric), day.status]
        for day, candidate, parent in zip(days, candidates, parents, strict=True)
    ]
    return Figure(
        title=f"{metric} of the two-tower on held-out users, after training",
        svg=charts.by_day("held-out", [d.day for d in days], series, metric, list(_breaks(days))),
        alt=(
            f"Lines over {len(days)} days. On the last day: the day's version"
            f" {number(series[0].values[-1])}, its parent"
            f" {number(series[1].values[-1])}."
        ),
        caption=(
            "The gate judges these figures. No version is trained on the events of these users on the"
            " day. They are fewer users, so the bands are wider."
        ),
        legend=[
            Mark("two_tower", "the day's version"),
            Mark("parent", "its parent", "dash"),
        ],
        table=Table(
            head=["day", "version", "parent", "status"],
            rows=rows[::-1],
            title=f"{metric} of the two-tower on held-out users, with 95% intervals",
        ),
    )


def lists(facts: Facts) -> Section:
    """All lists that were measured, by several measures."""
    sets = facts.evaluated_sets
    measured = {
        name for evaluated in sets for listed in evaluated.lists for name in listed.measures.values
    }
    ks = sorted(
        int(name.removeprefix("recall@")) for name in measured if name.startswith("recall@")
    )
    recalls = [f"recall@{k}" for k in ks]
    text = [
        "Variety is measured over all lists together. Coverage: the share of the catalogue that"
        " is in any list. Gini: 0% if all items are shown equally often. Overlap: the share of items"
        " that the lists of two users have in common. Popular share: the share of the most popular"
        " items, which together have half of the last days’ events; unknown if these days have no"
        " events.",
        f"Figures on this page are for lists {kind_text(facts.metrics.counted_lists)}, unless a title"
        " says otherwise. serving.exclude_seen of the pipeline file decides this. The ranker is fitted"
        " for these lists, and the gate judges them. A star marks lists of the other kind.",
    ]
    if facts.metrics.holdout.baseline is None:
        text.append("There is no earlier version to compare with.")
    return Section(
        anchor="lists",
        title="The lists, side by side",
        text=text,
        tables=[
            sets_table(sets, [*recalls, f"ndcg@{ks[0]}", "mrr"]),
            sets_table(sets, [f"{name}@{ks[-1]}" for name in _VARIETY]),
            *_next_click(facts),
        ]
        if ks
        else [],
    )


def _next_click(facts: Facts) -> list[Table]:
    clicks = facts.metrics.next_click
    measured: list[tuple[str, Measures | None]] = [
        ("two-tower of the previous day, all events", clicks.progressive),
        *(
            (f"{listed.label}, all events", listed.measures)
            for listed in baselines(clicks.baselines)
        ),
        ("this version, held-out users", clicks.holdout.candidate),
        ("its parent, held-out users", clicks.holdout.baseline),
    ]
    # The rows have different queries, so no row is marked as the best.
    listed = [MeasuredLists(PARENT, label, measures) for label, measures in measured if measures]
    names = [name for name in listed[0].measures.values if "recall@" in name] if listed else []
    title = "The next click: one query per event, with the user's events before it"
    measures = {name: heading(name) for name in names}
    return [lists_table(listed, measures, title=title, folded=True)] if names else []


def slices(facts: Facts) -> Section:
    """Recall by slice of users and of items."""
    evaluated = facts.of_the_model
    title = "New and old users, new and old items"
    sliced = [listed for listed in evaluated.lists if listed.measures.slices]
    if not sliced:
        none = "There are no slices, because no user could be measured."
        return Section(anchor="slices", title=title, text=[none])
    return Section(
        anchor="slices",
        title=title,
        text=[
            "Slices group users and items by their number of events before the day; 0 is new. Dots"
            " farther right are better. Lines are 95% intervals over users.",
            f"{evaluated.text} New users count only in their own slice.",
        ],
        figures=[_sliced(facts, sliced, side) for side in (USERS, ITEMS)],
    )


def _sliced(facts: Facts, listed: list[MeasuredLists], side: str) -> Figure:
    # All lists were measured for the same users, so all have the slices of the first.
    first = listed[0].measures
    slices_ = dict(first.slices.on_side(side)) if first.slices else {}
    outside = slices_.pop("outside", None)
    one_of = side.removesuffix("s")
    series = [
        charts.Series(
            colour=of_list.kind,
            values=[of_list.measures.value(key(facts.metric, side, name)) for name in slices_],
            spans=[
                interval_of(of_list.measures, key(facts.metric, side, name)) for name in slices_
            ],
        )
        for of_list in listed
    ]
    values = zip(slices_, series[0].values, strict=True)
    alt = "; ".join(f"{name} {number(value)}" for name, value in values)
    caption = ""
    if outside and outside.true:
        caption = f"{count(outside.true)} taken items were not in the catalogue, so no list can contain them."
    of_users = side == USERS
    table = Table(
        head=["events", "users" if of_users else "taken", *(list_name(s.colour) for s in series)],
        rows=[
            [
                name,
                count(measured.users if of_users else measured.true),
                *(number(of_list.values[position]) for of_list in series),
            ]
            for position, (name, measured) in enumerate(slices_.items())
        ],
        title=f"{facts.metric} by earlier events of the {one_of}",
    )
    return Figure(
        title=f"By earlier events of the {one_of}",
        svg=charts.dots(
            f"slices-{side}", [name.replace("-", "–") for name in slices_], series, facts.metric
        ),
        alt=f"{listed[0].label}, by earlier events of the {one_of}: {alt}",
        caption=caption,
        legend=[Mark(of_list.kind, of_list.label, "dot") for of_list in listed],
        table=table,
    )


def second_stage(facts: Facts) -> Section:
    """What orders the candidates: the fixed order, and the ranker if there is one."""
    text = ["Sources propose items. The ranker or the fixed order sorts them."]
    if order := facts.order:
        text.append(f"The fixed order is {describe_order(order.kind, order.weights)}.")
    tables = []
    if facts.metrics.ranker and (fitted := facts.metrics.ranker.fitted):
        largest = list(fitted.importance.items())[:_SHOWN_FEATURES]
        tables.append(
            Table(
                head=["feature", "share of the ranker's gain"],
                rows=[[name, share(value)] for name, value in largest],
                title=f"The ranker {describe_ranker(fitted, facts.gate.serves)}. Its most used features:",
                folded=True,
            )
        )
    return Section(
        anchor="sources", title="What orders the lists", text=text, tables=tables, half=True
    )
