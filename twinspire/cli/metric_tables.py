"""Measured figures as a table: a model beside the lists that need none."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table


def quality_table(metrics: Mapping[str, Any], ks: Sequence[int]) -> Table:
    """The figures of metrics.json, one row per list and split.

    Args:
      metrics: as twinspire_core/contracts/model_bundle.py says.
      ks: list lengths, `evaluation.ks`.
    """
    held, mix = metrics["holdout"], metrics.get("mix") or {}
    own = mix.get("holdout") or {}
    splits = {
        "day": {
            "the parent": metrics["progressive"],
            "its mix": mix.get("progressive"),
            **metrics["baselines"],
        },
        "held out": {
            "this version": held["candidate"],
            "its mix": own.get("candidate") if own.get("users") == held["users"] else None,
            "the parent": held["baseline"],
            **held["baselines"],
        },
    }
    return lists_table(
        splits, ks, f"day: before training on it; held out: {held['users']} users never trained on"
    )


def lists_table(splits: Mapping[str, Mapping[str, Any]], ks: Sequence[int], caption: str) -> Table:
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
                cells = (f"{measures[name]:.3f}" if name in measures else "" for name in names)
                table.add_row(split, title.replace("_", " "), *cells)
                split = ""
        table.add_section()
    return table


def score_tables(
    measured: Mapping[str, Mapping[str, Any]],
    ks: Sequence[int],
    title: str,
    *,
    slices: bool = False,
) -> Iterator[Table]:
    """What `evaluate` tells: how near lists came, whom they serve, and what they show taken
    together.

    Args:
      measured: measures by list, as model/evaluation/evaluate.py says, with the number of queries
        `answered`.
      ks: list lengths.
      title: what was measured.
      slices: whether it is told whom they serve, where that was measured.
    """
    measured = {name.replace("_", " "): measures for name, measures in measured.items()}
    first = next(iter(measured.values()))
    seen = {f"{name} *": m["excluded"] for name, m in measured.items() if "excluded" in m}
    notes = ["* without the items that a user had before"] if seen else []
    title = f"{title}: {first['users']:,} users asked, {first['answered']:,} answered"
    yield _near(measured, seen, ks, title, "\n".join(notes))
    if slices and "slices" in first:
        yield _for_whom(measured, sorted(ks)[len(ks) // 2])
    yield _together({**measured, **seen}, max(ks))


def _near(measured: Mapping, seen: Mapping, ks: Sequence[int], title: str, caption: str) -> Table:
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr"]
    table = _table(title, "", names, caption)
    for number, (name, measures) in enumerate(measured.items()):
        table.add_row(name, *(_figure(measures, measure) for measure in names))
        spans = measures.get("intervals", {}) if number == 0 else {}
        for side, word in enumerate(("  95% from", "  to") if spans else ()):
            table.add_row(
                word, *(f"{spans[m][side]:.4f}" if m in spans else "" for m in names), style="dim"
            )
    table.add_section()
    for name, measures in seen.items():
        table.add_row(name, *(_figure(measures, measure) for measure in names))
    return table


def _for_whom(measured: Mapping, k: int) -> Table:
    """Recall by slice: of the first list, with its interval, and of the best of the others."""
    (name, first), *others = measured.items()
    measure = f"recall@{k}"
    columns = ["users", name, "95%", *(["best\nother", ""] if others else [])]
    table = _table(f"{measure} by the number of earlier events", "", columns)
    for side, said in (("users", "users, {}"), ("items", "true items, {}")):
        for part, found in first["slices"][side].items():
            if measure in found:
                span = first.get("intervals", {}).get(f"{measure}/{side}:{part}")
                interval = f"{span[0]:.4f}-{span[1]:.4f}" if span else ""
                theirs = {
                    other: x.get("slices", {}).get(side, {}).get(part, {}) for other, x in others
                }
                best = max(theirs, key=lambda other: theirs[other].get(measure, -1), default=None)
                rest = [_figure(theirs[best], measure), best] if best else []
                table.add_row(
                    said.format(part),
                    f"{found['users']:,}",
                    _figure(found, measure),
                    interval,
                    *rest,
                )
        table.add_section()
    return table


def _together(measured: Mapping, k: int) -> Table:
    names = [
        name for name in _SETS if any(f"{name}@{k}" in measures for measures in measured.values())
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


def _figure(measures: Mapping[str, Any], name: str) -> str:
    return f"{measures[name]:.4f}" if name in measures else ""
