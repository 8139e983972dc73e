"""The last 30 lines of the demo: how good each day's lists were, one household's list, and the commands to
type next.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl
from rich.console import Console
from rich.text import Text

from index_builder.registry.quality_history import VersionQuality, quality_of
from index_builder.registry.registry import Registry
from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from twinspire.cli.ask import user_result
from twinspire.cli.shared import (
    terminal_table,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import version_manifest
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.served_figure import on_next_day
from twinspire_core.display.table import Table, count, number
from twinspire_core.sources import user_histories

MEASURES = ("recall@50", "ndcg@10")
_ITEMS = 5
"""As many as the version lists, and as many that are new to the household."""


def show(pipeline: Pipeline, days: Sequence[date], took: str, console: Console) -> None:
    """Prints the report.

    Args:
      days: the days of the backfill, oldest first.
      took: how long the days took, as text.
    """
    registry = Registry(pipeline.registry.root, pipeline.name)
    of_day = {one.date: one.version for one in registry.statuses() if one.date in days}
    qualities = quality_of(registry, registry.log(), [*of_day.values()])
    measured = {day: qualities[version] for day, version in of_day.items()}
    live = Version.open(pipeline)
    household = typical_household(pl.read_parquet(live.home / version_manifest.USERS / "*.parquet"))
    answer, new = (
        user_result(live, household["_user"], ListRequest(k=_ITEMS, exclude_seen=excluded))
        for excluded in (None, True)
    )
    serves = f"{live.id} is live; its {list_name(answer['source'])} serves"
    console.print(Text(f"\n{len(measured)} days in {took}. {serves}.", style="bold"))
    console.print(terminal_table(quality_table(measured)))
    _print_list(household, [*answer["items"], *new["items"]], console)
    console.print(Text("\nType next", style="bold"))
    for command, what in _next(pipeline.name, household["_user"]):
        console.print(Text.assemble(command, (f"  {what}", "dim")), soft_wrap=True)


def quality_table(measured: Mapping[date, VersionQuality]) -> Table:
    """A row for each day: the served lists, the best simple list and the two-tower.

    Args:
      measured: the version of each day.
    """
    rows = []
    for day, quality in sorted(measured.items()):
        figures = [quality.served_on_its_day(measure) for measure in MEASURES]
        served = quality.metrics.holdout.baseline is not None
        if not served:
            # Nothing was served before the first version: its own two-tower was measured
            figures = [on_next_day(quality.metrics, None, day, measure) for measure in MEASURES]
        lists = [
            [figure.value if figure and served else None for figure in figures],
            [figure.simple_value if figure else None for figure in figures],
            [figure.two_tower if figure else None for figure in figures],
        ]
        users = figures[0].users if figures[0] else None
        rows.append([str(day), count(users), *("  ".join(map(number, of)) for of in lists)])
    return Table(
        head=["day", "households", "served", "best simple list", "two-tower"],
        rows=rows,
        names=(0, 2, 3, 4),
        note=f"{' and '.join(MEASURES)} of lists made before the day began",
    )


def typical_household(users: pl.DataFrame) -> dict[str, Any]:
    """The household in the middle by the number of products that it has bought lately."""
    ranked = users.sort(pl.col("_past").list.len().fill_null(0), "_user")
    return ranked.row(len(ranked) // 2, named=True)


def _print_list(
    household: Mapping[str, Any], items: Sequence[Mapping[str, Any]], console: Console
) -> None:
    # The second column has products that were bought before the days of the history
    bought = {*(household["_past"] or ()), *(household.get(user_histories.ITEMS) or ())}
    rows = [
        [
            str(rank),
            item.get("name") or item["item"],
            item.get("package_size") or "",
            "bought before" if item["item"] in bought else "new",
        ]
        for rank, item in enumerate(items, 1)
    ]
    title = f"\nFor household {household['_user']}, which has bought {len(bought):,} products"
    console.print(Text(title, style="bold"))
    console.print(terminal_table(Table(head=[""] * 4, rows=rows, names=(0, 1, 2, 3))))


def _next(name: str, user: str) -> list[tuple[str, str]]:
    commands = {
        f"recommend {name} --user {user}": "a whole list",
        f"report {name} --open": "its page",
        f"serve {name}": "the inspector, and an API",
        "try YOUR.csv": "your logs",
    }
    width = max(map(len, commands))
    return [
        (f"  .venv/bin/twinspire {command:<{width}}", what) for command, what in commands.items()
    ]
