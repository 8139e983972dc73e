"""Ten recommendations for three households of different kinds, by the live version: what to buy
again, and what is new for them.
"""

from typing import Any

import polars as pl
from rich.console import Console
from rich.text import Text

from serving.version.loaded_version import Version
from twinspire.cli.show_lists import user_result
from twinspire.cli.terminal_tables import terminal_table
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import artifact_files
from twinspire_core.display.table import Table
from twinspire_core.sources import personal_counts

_NEW_SHARE = 0.5
"""Nearly all of a list is bought again, unless new items have their share."""
_WIDTHS = {1: 32, 2: 40}
"""Columns of names and of details, so that 80 columns hold a row."""


def show(pipeline: Pipeline, console: Console) -> list[str]:
    """Prints them and returns the households' ids."""
    version = Version.open(pipeline)
    shown = choose(
        pl.read_parquet(version.home / artifact_files.USERS / "**/*.parquet"), _about(pipeline)
    )
    for kind, household in shown.items():
        _print(version, kind, household, _about(pipeline), console)
    return [household["_user"] for household in shown.values()]


def _about(pipeline: Pipeline) -> list[str]:
    return [name for name in pipeline.tower("query") if pipeline.origin(name) == "users"]


def choose(users: pl.DataFrame, about: list[str]) -> dict[str, dict[str, Any]]:
    """Three households by kind; the same ones for the same table.

    Args:
      users: `_user`, `_past_events`, `_past` and the columns `about`, one row each.
      about: columns that say something about a household; null where nothing is known.
    """
    described = pl.any_horizontal(pl.col(name).is_not_null() for name in about)
    ranked = users.sort("_past_events", "_user").with_columns(_described=described)
    known, unknown = (ranked.filter(pl.col("_described") == value) for value in (True, False))
    picked = {
        "about whom something is known": known[len(known) // 2],
        "about whom nothing is known": unknown[len(unknown) // 2],
        "that has hardly bought anything": ranked[:1],
    }
    return {kind: rows.to_dicts()[0] for kind, rows in picked.items() if len(rows)}


def _print(
    version: Version, kind: str, household: dict[str, Any], about: list[str], console: Console
) -> None:
    found = user_result(version, household["_user"], 10, new_share=_NEW_SHARE)
    facts = [
        f"{name.replace('_', ' ')} {household[name]}"
        for name in about
        if household[name] is not None
    ]
    lately = ", ".join(
        dict.fromkeys(item.get("name") or item["item"] for item in found["history"][:6])
    )
    console.print(Text(f"\nHousehold {household['_user']}, {kind}", style="bold"))
    number = household["_past_events"]
    of = "purchase" if number == 1 else "purchases"
    facts.append(f"{number} {of} in {version.pipeline.window.history_days} days")
    console.print(Text("; ".join(facts), style="dim"))
    console.print(Text(f"Last: {lately}" if lately else "No purchase yet.", style="dim"))
    for title, items in parted(found["items"], bought(household)).items():
        if not items:
            continue
        console.print(Text(title))
        rows = []
        for rank, item in items:
            details = [item[name] for name in version.pipeline.corpus.display[1:] if item.get(name)]
            rows.append([f"{rank:2}", item["name"] or item["item"], ", ".join(details)])
        table = Table(head=["", "", ""], rows=rows, names=(0, 1, 2))
        console.print(terminal_table(table, _WIDTHS))


def bought(household: dict[str, Any]) -> set[str]:
    """All products that the version knows a household to have bought, also before the days of its
    history, as far as the source `personal` goes back.
    """
    return {*(household["_past"] or ()), *(household.get(personal_counts.ITEMS) or ())}


def parted(
    items: list[dict[str, Any]], bought: set[str]
) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """A list in two, each item with its place in the whole."""
    ranked = list(enumerate(items, 1))
    return {
        "Buy again": [(rank, item) for rank, item in ranked if item["item"] in bought],
        "New for you": [(rank, item) for rank, item in ranked if item["item"] not in bought],
    }
