"""The quality of lists as people see it.

Measures as text, lists that were measured on the same queries, and tables that compare them. Reports,
commands and the demo show the same lists of a version: its own, those of the version before, and those that
need no model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from twinspire_core.config.source_registry import (
    BASELINE_TITLES,
    ENTRIES,
    FIXED_ORDER,
    RANKED,
    TWO_TOWER,
)
from twinspire_core.contracts.day_metrics import DayMetrics, RankerFit
from twinspire_core.contracts.measures import Measures, interval_of, value_of
from twinspire_core.display.table import (
    Cell,
    Row,
    Style,
    Table,
    count,
    in_style,
    interval,
    number,
    share,
)
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT

PARENT = "parent"
"""Kind of the lists of the version before."""

_NAMES = {
    **BASELINE_TITLES,
    FIXED_ORDER: "fixed order",
    RANKED: "ranker",
    "uncorrected": "two-tower, correction taken out",
}
_MEASURES = {"ndcg": "nDCG", "hit_rate": "hit rate", "mrr": "MRR", "popular_share": "popular share"}
# Measures that are shown in percent.
_SHARES = ("coverage", "gini", "overlap", "popular_share")


@dataclass(frozen=True, slots=True)
class MeasuredLists:
    """Lists that one method made, measured.

    Attributes:
      kind: `two_tower`, `fixed_order`, `ranked`, `parent`, or the name of a method without a model.
      label: their name in a table of several lists.
      served: whether they are the lists that are served.
    """

    kind: str
    label: str
    measures: Measures
    served: bool = False


@dataclass(frozen=True, slots=True)
class EvaluatedSet:
    """Several lists, measured on the same queries.

    Attributes:
      name: of the queries, short enough for a column.
      title: of the queries, in a sentence.
      text: a sentence that says whose queries they are.
      lists: those that are served come first.
    """

    name: str
    title: str
    text: str
    lists: Sequence[MeasuredLists]

    @property
    def of_model(self) -> bool:
        """Whether the two-tower is among the lists."""
        return any(lists.kind == TWO_TOWER for lists in self.lists)


def list_name(kind: str) -> str:
    """The name of a kind of lists on screen.

    Example:
      >>> list_name("co_occurrence")
      'bought together'
    """
    if kind in ENTRIES:
        return ENTRIES[kind].title
    return _NAMES.get(kind, kind.replace("_", " "))


def kind_text(kind: str) -> str:
    """How a kind of lists, `KEPT` or `EXCLUDED`, is described at the end of a sentence."""
    return f"{'without' if kind == EXCLUDED else 'with'} seen items"


def heading(measure: str) -> str:
    """The heading of a measure's column.

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
    """A measure with its interval in brackets, where there is one. Shares are not in percent, so that
    they can be compared with limits in pipeline files.
    """
    ends = interval_of(measures, measure)
    return number(value_of(measures, measure)) + (f" ({interval(ends)})" if ends else "")


def quality_table(
    metrics: DayMetrics,
    day: date,
    ks: Sequence[int],
    *,
    serves_before: str | None = None,
    serves: str | None = None,
) -> Table:
    """What was measured on a day: on all its users, and on held-out users.

    Args:
      metrics: the `metrics.json` of the day.
      serves_before: which lists the gate let the previous version serve.
      serves: what the gate lets the day's version serve.
    """
    sets = [on_the_day(metrics, day, serves_before), held_out(metrics, day, serves)]
    return sets_table(sets, headline(ks))


def headline(ks: Sequence[int]) -> list[str]:
    """The measures that compare lists at a glance, for the lengths `evaluation.ks`."""
    recalls = [f"recall@{k}" for k in ks]
    return [*recalls, f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", f"coverage@{max(ks)}"]


def lists_table(
    lists: Sequence[MeasuredLists],
    measures: Mapping[str, str],
    *,
    title: str = "",
    folded: bool = False,
) -> Table:
    """A table with a row for each list and a column for each measure.

    Args:
      lists: measured on the same queries.
      measures: headings of the columns, by measure.
      title: as `Table.title`, and so is `folded`.
    """
    rows = _rows(lists, measures)
    return Table(head=["", *measures.values()], rows=rows, title=title, folded=folded)


def sets_table(sets: Sequence[EvaluatedSet], measures: Sequence[str]) -> Table:
    """A table with a section for each set of queries, of the lists that count, and after these one for
    each set of the other kind of lists, which is marked.

    Args:
      sets: those without lists are left out.
      measures: a column for each.
    """
    measured = [x for x in sets if x.lists]
    rows: list[Row] = []
    starts = []
    for shown in [*measured, *(other for other in map(of_other_kind, measured) if other.lists)]:
        starts.append(len(rows))
        # Only the first row of a section names its set
        names = [shown.name, *[""] * (len(shown.lists) - 1)]
        rows += [
            [name, *row] for name, row in zip(names, _rows(shown.lists, measures), strict=True)
        ]
    notes = [f"{x.name}: {x.text}" for x in measured if x.text]
    notes += map(_kinds_text, measured[:1])
    head = ["on", "list", *map(heading, measures)]
    return Table(head=head, rows=rows, note="\n".join(notes), names=(0, 1), sections=starts[1:])


def _rows(lists: Sequence[MeasuredLists], measures: Iterable[str]) -> list[list[Cell]]:
    names = list(measures)
    rows = [[x.label, *(measure_text(x.measures, name) for name in names)] for x in lists]
    return [
        in_style(row, Style.STRONG if x.served else None)
        for row, x in zip(rows, lists, strict=True)
    ]


def _kinds_text(evaluated: EvaluatedSet) -> str:
    """Which kind of lists the gate judges, and which is marked by a star."""
    counted = evaluated.lists[0].measures.kind
    other_kind = KEPT if counted == EXCLUDED else EXCLUDED
    text = f"The gate judges lists {kind_text(counted)}"
    return f"{text}; * are lists {kind_text(other_kind)} (serving.exclude_seen)."


def on_the_day(metrics: DayMetrics, day: date, serves: str | None = None) -> EvaluatedSet:
    """The previous version on all users of a day, before training on the day. For a first version: the
    version itself before training on the day.

    Args:
      metrics: the `metrics.json` of the day.
      serves: which lists the gate let the previous version serve; None if unknown.
    """
    by = "this version before training on the day" if is_first(metrics) else "the previous version"
    text = f"{_asked(metrics, day)}. The lists are by {by}."
    lists = _progressive(metrics, served_on_its_day(metrics, serves))
    lists += baselines(metrics.baselines)
    return EvaluatedSet("day", "the day", text, lists)


def held_out(metrics: DayMetrics, day: date, serves: str | None = None) -> EvaluatedSet:
    """A version and the previous one on users whose events of the day neither was trained on.

    Args:
      metrics: the `metrics.json` of the version's day.
      serves: which lists the gate lets the version serve; None for the fixed order.
    """
    held = metrics.holdout
    lists = _of_version(held.candidate, metrics.comparable_fixed_order, None, serves or FIXED_ORDER)
    if held.baseline:
        lists.append(MeasuredLists(PARENT, "previous two-tower", held.baseline))
    lists += baselines(held.baselines)
    # If a day holds out too few users, held-out users of earlier days are measured, too
    days = f"{held.days} days" if held.days > 1 else str(day)
    text = f"{count(held.users)} users of {days}. Their events of the day are left out of training."
    return EvaluatedSet("held out", "held-out users", text, lists)


def on_the_next_day(metrics: DayMetrics, day: date, serves: str | None) -> EvaluatedSet:
    """A version on all users of the next day that was run, before training on that day.

    Args:
      metrics: the `metrics.json` of the next day, which is `day`.
      serves: which lists the gate lets the version serve; None if unknown.
    """
    text = f"{_asked(metrics, day)}, before training on that day."
    lists = [*_progressive(metrics, serves), *baselines(metrics.baselines)]
    return EvaluatedSet("next day", "the next day", text, lists)


def is_first(metrics: DayMetrics) -> bool:
    """Whether the day's version is the first one."""
    return metrics.holdout.candidate is not None and metrics.holdout.baseline is None


def served_on_its_day(metrics: DayMetrics, serves_before: str | None) -> str | None:
    """Which lists were served on a version's day, for `served_kind`. A first version would have served its
    fixed order.

    Args:
      metrics: the `metrics.json` of the day.
      serves_before: which lists the gate let the previous version serve.
    """
    return FIXED_ORDER if is_first(metrics) else serves_before


def served_kind(measured: Mapping[str, Measures | None], serves: str | None) -> str | None:
    """Which of a version's lists are served; None if unknown.

    Args:
      measured: the measures of its lists by kind; None if they were not measured.
      serves: the gate's verdict; None if it was deleted with its version.
    """
    if serves:
        return serves
    if measured.get(RANKED) and serves is None:
        # The verdict was deleted with its version: either may have served
        return None
    return FIXED_ORDER if measured.get(FIXED_ORDER) else TWO_TOWER


def _asked(metrics: DayMetrics, day: date) -> str:
    users = "All users"
    if metrics.progressive and metrics.progressive.users is not None:
        users = f"All {count(metrics.progressive.users)} measured users"
    return f"{users} of {day} with a history"


def _progressive(metrics: DayMetrics, serves: str | None) -> list[MeasuredLists]:
    ranked = metrics.ranked_progressive
    return _of_version(metrics.progressive, metrics.fixed_order.progressive, ranked, serves)


def _of_version(
    two_tower: Measures | None,
    fixed_order: Measures | None,
    ranked: Measures | None,
    serves: str | None,
) -> list[MeasuredLists]:
    """The measured lists of a version: the served ones first, the two-tower's last."""
    if two_tower is None:
        return []
    measured = {RANKED: ranked, FIXED_ORDER: fixed_order, TWO_TOWER: two_tower}
    served = served_kind(measured, serves)
    lists = [MeasuredLists(kind, list_name(kind), x) for kind, x in measured.items() if x]
    first = [replace(x, label=f"served: {x.label}", served=True) for x in lists if x.kind == served]
    return [*first, *(x for x in lists if x.kind != served)]


def baselines(measured: Mapping[str, Measures]) -> list[MeasuredLists]:
    """The lists that need no model, by name."""
    return [MeasuredLists(kind, list_name(kind), measures) for kind, measures in measured.items()]


def of_other_kind(evaluated: EvaluatedSet) -> EvaluatedSet:
    """The measured lists of the kind that the gate does not judge. Their name is marked by a star."""
    lists = [replace(x, measures=x.measures.other) for x in evaluated.lists if x.measures.other]
    return replace(evaluated, name=f"{evaluated.name} *", lists=lists)


_KINDS = {
    "repeats": "logs whose users mostly take the same items again",
    "steady": "logs whose users mostly take items that stay popular",
    "neither": "logs whose users mostly take items that are new to them",
}


def describe_order(kind: str, weights: Mapping[str, float]) -> str:
    """The kind of log and the weights of a version's fixed order, in words.

    Args:
      kind: of log, as `FixedOrder.kind`.
      weights: by source; those that round to 0.00 are left out.
    """
    largest_first = sorted(weights.items(), key=lambda pair: -pair[1])
    named = [f"{list_name(name)} {weight:.2f}" for name, weight in largest_first if weight >= 0.005]
    return f"for {_KINDS.get(kind, 'other logs')}: {', '.join(named)}"


def describe_ranker(fitted: RankerFit, serves: str | None) -> str:
    """Which lists a ranker was fitted on, and whether the gate lets it serve, in words."""
    days = f"{fitted.days[0]} to {fitted.days[-1]}" if len(fitted.days) > 1 else fitted.days[0]
    on = f"fitted on the lists of {count(fitted.queries)} users, {days}"
    if serves == RANKED:
        return f"serves; {on}"
    return f"does not serve (the gate's notes say why); {on}"
