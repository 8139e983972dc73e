"""Measured figures as a table: a model beside the lists that need none."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def quality_table(metrics: Mapping[str, Any], ks: Sequence[int]) -> Table:
    """The figures of metrics.json, one row per list and split.

    Args:
      metrics: as model/bundle.py says.
      ks: list lengths, `evaluation.ks`.
    """
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", f"coverage@{max(ks)}"]
    held = metrics["holdout"]
    table = Table(
        "on", "list", *names, caption=f"day: before training on it; held out: {held['users']} users never trained on"
    )
    day = {"the parent": metrics["progressive"], **metrics["baselines"]}
    held_out = {"this version": held["candidate"], "the parent": held["baseline"], **held["baselines"]}
    for split, lists in (("day", day), ("held out", held_out)):
        for title, measures in lists.items():
            if measures:
                cells = (f"{measures[name]:.3f}" if name in measures else "" for name in names)
                table.add_row(split, title.replace("_", " "), *cells)
                split = ""
        table.add_section()
    return table
