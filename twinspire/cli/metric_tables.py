"""Measured figures as a table: a model beside the lists that need none."""

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE
from rich.table import Table

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures
from twinspire_core.metrics.measure_names import key


def quality_table(metrics: DayMetrics, ks: Sequence[int]) -> Table:
    """The figures of metrics.json, one row per list and split.

    Args:
      metrics: what was measured on the day.
      ks: list lengths, `evaluation.ks`.
    """
    held = metrics.holdout
    splits = {
        "day": {
            "the parent": metrics.progressive,
            "its mix": metrics.mix.progressive,
            **metrics.baselines,
        },
        "held out": {
            "this version": held.candidate,
            "its mix": metrics.comparable_fusion,
            "the parent": held.baseline,
            **held.baselines,
        },
    }
    return lists_table(
        splits, ks, f"day: before training on it; held out: {held.users} users never trained on"
    )


def lists_table(
    splits: Mapping[str, Mapping[str, Measures | None]], ks: Sequence[int], caption: str
) -> Table:
    """The headline figures, one row per list.

    Args:
      splits: measures by list, by what they were measured on; lists that were not measured are left
        out.
      ks: list lengths, `evaluation.ks`.
      caption: what stands below.
    """
    names = [
        *(f"recall@{k}" for k in ks),
        f"ndcg@{min(ks)}",
        f"hit_rate@{min(ks)}",
        f"coverage@{max(ks)}",
    ]
    table = _table("", "on", ["list", *names], caption)
    table.columns[1].justify, table.columns[1].no_wrap = "left", True
    table.padding = (0, 1, 0, 0)  # 80 columns hold it
    for split, lists in splits.items():
        for title, measures in lists.items():
            if measures:
                values = (measures.value(name) for name in names)
                cells = ("" if value is None else f"{value:.3f}" for value in values)
                table.add_row(split, title.replace("_", " "), *cells)
                split = ""
        table.add_section()
    return table


def score_tables(
    measured: Mapping[str, Measures],
    ks: Sequence[int],
    title: str,
    *,
    slices: bool = False,
) -> Iterator[Table]:
    """What `evaluate` tells: how near lists came, whom they serve, and what they show taken
    together.

    Args:
      measured: by list, with the number of queries `answered`.
      ks: list lengths.
      title: what was measured.
      slices: whether it is told whom they serve, where that was measured.
    """
    measured = {name.replace("_", " "): measures for name, measures in measured.items()}
    first = next(iter(measured.values()))
    seen = {f"{name} *": m.excluded for name, m in measured.items() if m.excluded}
    notes = ["* without the items that a user had before"] if seen else []
    title = f"{title}: {first.users:,} users asked, {first.answered:,} answered"
    yield _near(measured, seen, ks, title, "\n".join(notes))
    if slices and first.slices:
        yield _for_whom(measured, sorted(ks)[len(ks) // 2])
    yield _together({**measured, **seen}, max(ks))


def _near(
    measured: Mapping[str, Measures],
    seen: Mapping[str, Measures],
    ks: Sequence[int],
    title: str,
    caption: str,
) -> Table:
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr"]
    table = _table(title, "", names, caption)
    for number, (name, measures) in enumerate(measured.items()):
        table.add_row(name, *(_figure(measures, measure) for measure in names))
        spans = measures.intervals if number == 0 else {}
        for side, word in enumerate(("  95% from", "  to") if spans else ()):
            table.add_row(
                word, *(f"{spans[m][side]:.4f}" if m in spans else "" for m in names), style="dim"
            )
    table.add_section()
    for name, measures in seen.items():
        table.add_row(name, *(_figure(measures, measure) for measure in names))
    return table


def _for_whom(measured: Mapping[str, Measures], k: int) -> Table:
    """Recall by slice: of the first list, with its interval, and of the best of the others."""
    (name, first), *others = measured.items()
    measure = f"recall@{k}"
    columns = ["users", name, "95%", *(["best\nother", ""] if others else [])]
    table = _table(f"{measure} by the number of earlier events", "", columns)
    for side, said in (("users", "users, {}"), ("items", "true items, {}")):
        for part, found in first.slices.on_side(side).items() if first.slices else ():
            if found.value(measure) is None:
                continue
            sliced = key(measure, side, part)
            span = first.intervals.get(sliced)
            interval = f"{span[0]:.4f}-{span[1]:.4f}" if span else ""
            cells = [said.format(part), f"{found.users:,}", _figure(first, sliced), interval]
            if others:
                best, lists = max(others, key=lambda other: _least_if_none(other[1], sliced))
                cells += [_figure(lists, sliced), best]
            table.add_row(*cells)
        table.add_section()
    return table


def _together(measured: Mapping[str, Measures], k: int) -> Table:
    names = [
        name
        for name in _SETS
        if any(measures.value(f"{name}@{k}") is not None for measures in measured.values())
    ]
    said = "; ".join(_SETS[name] for name in names)
    table = _table(f"first {k}, all lists together", "", [f"{name}@{k}" for name in names], said)
    for name, measures in measured.items():
        table.add_row(name, *(_figure(measures, f"{measure}@{k}") for measure in names))
    return table


_SETS = {
    "coverage": "coverage: share of the catalogue in any list",
    "gini": "gini: 0 when all items are shown equally often, 1 when one has it all",
    "overlap": "overlap: share that two users' lists have in common",
    "popular_share": "popular share: items that have half of the last days' events",
}


def _table(title: str, first: str, names: Sequence[str], caption: str = "") -> Table:
    table = Table(
        title=title or None,
        caption=caption or None,
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
    )
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name.replace("@", "\n@").replace("_", " "), justify="right")
    return table


def _figure(measures: Measures, name: str) -> str:
    value = measures.value(name)
    return "" if value is None else f"{value:.4f}"


def _least_if_none(measures: Measures, name: str) -> float:
    value = measures.value(name)
    return -1.0 if value is None else value
