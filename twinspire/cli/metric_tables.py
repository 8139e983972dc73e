"""What `evaluate` tells: how near lists came, and what they show taken together."""

from collections.abc import Iterator, Mapping, Sequence

from twinspire_core.contracts.measures import Measures
from twinspire_core.display.figures import count, number
from twinspire_core.display.measured_lists import kind_text, list_name
from twinspire_core.display.quality_tables import heading, measure_text
from twinspire_core.display.table import Row, Style, Table, in_style
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT

_DIGITS = 4
_OF_ALL_LISTS = {
    "coverage": "coverage: share of the catalogue in any list",
    "gini": "gini: 0% when all items are shown equally often, 100% when one has it all",
    "overlap": "overlap: share that two users' lists have in common",
    "popular_share": "popular share: items that have half of the last days' events, not known without any",
}


def score_tables(
    measured: Mapping[str, Measures], ks: Sequence[int], title: str
) -> Iterator[Table]:
    """The tables of one evaluation.

    Args:
      measured: by kind of lists, with the number of queries `answered`.
      ks: list lengths.
      title: what was measured.
    """
    lists = {list_name(kind): measures for kind, measures in measured.items()}
    others = {f"{name} *": m.other for name, m in lists.items() if m.other}
    first = next(iter(lists.values()))
    title = f"{title}: {count(first.users)} users asked, {count(first.answered)} answered"
    yield _near(lists, others, ks, title)
    together = _together({**lists, **others}, max(ks))
    if len(together.head) > 1:
        yield together


def _near(
    lists: Mapping[str, Measures], others: Mapping[str, Measures], ks: Sequence[int], title: str
) -> Table:
    """How near lists came, the first of them with its intervals; then those of the other kind."""
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr"]
    rows: list[Row] = []
    for place, (name, measures) in enumerate(lists.items()):
        rows.append(_row(name, measures, names))
        if place == 0 and measures.intervals:
            rows += _intervals(measures, names)
    start_of_others = len(rows)
    rows += [_row(name, measures, names) for name, measures in others.items()]
    return Table(
        head=["", *map(heading, names)],
        rows=rows,
        title=title,
        note=_kinds_text(others),
        sections=[start_of_others] if others else [],
    )


def _kinds_text(others: Mapping[str, Measures]) -> str:
    """Which lists the marked ones are, and which are those that count."""
    for measures in others.values():
        if measures.kind == KEPT:
            return (
                "without what a user had before, which is what counts (serving.exclude_seen);"
                f" * {kind_text(KEPT)}"
            )
        return f"* {kind_text(EXCLUDED)}"
    return ""


def _intervals(measures: Measures, names: Sequence[str]) -> Iterator[Row]:
    for side, word in enumerate(("  95% from", "  to")):
        ends = [measures.intervals.get(name) for name in names]
        cells = [number(both[side], _DIGITS) if both else "" for both in ends]
        yield in_style([word, *cells], Style.DIM)


def _row(name: str, measures: Measures, names: Sequence[str]) -> Row:
    return [name, *(measure_text(measures, measure, _DIGITS) for measure in names)]


def _together(lists: Mapping[str, Measures], k: int) -> Table:
    """What all lists of a kind show between them."""
    known = [
        name
        for name in _OF_ALL_LISTS
        if any(measures.value(f"{name}@{k}") is not None for measures in lists.values())
    ]
    names = [f"{name}@{k}" for name in known]
    return Table(
        head=["", *map(heading, names)],
        rows=[_row(name, measures, names) for name, measures in lists.items()],
        title=f"first {k}, all lists together",
        note="; ".join(_OF_ALL_LISTS[name] for name in known),
    )
