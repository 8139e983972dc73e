"""What the demo has to show in the end: versions, their quality beside the baselines', recommendations."""

import json
from datetime import date

from rich.console import Console
from rich.table import Table

from index_builder.registry import Registry, Status
from twinspire import storage
from twinspire.pipeline import Pipeline

FIGURES = ("recall@10", "recall@50", "recall@100", "ndcg@10", "hit_rate@10", "coverage@100")
BASELINES = {"most_popular": "most popular", "popular_lately": "popular lately", "past": "what they bought before"}


def versions(registry: Registry, console: Console) -> list[Status]:
    """Prints the versions, oldest first, and returns them."""
    found = sorted(registry.statuses(), key=lambda status: status.date)
    table = Table(title="Versions", title_justify="left", box=None, padding=(0, 1))
    for column in ("version", "status", "reason"):
        table.add_column(column, no_wrap=column != "reason")
    for one in found:
        table.add_row(one.version, one.status, one.reason, style="green" if one.status == "live" else "")
    console.print(table)
    return found


def quality(registry: Registry, pipeline: Pipeline, found: list[Status], console: Console) -> None:
    """Prints each day's figures: of the model before it saw the day, after, and of lists that need no model."""
    table = Table(title="Quality, by day", title_justify="left", box=None, padding=(0, 1))
    table.add_column("day", no_wrap=True)
    table.add_column("who")
    for name in FIGURES:
        table.add_column(name, justify="right")
    for one in found:
        place = storage.join(registry.root, registry.pipeline, "versions", one.version, "metrics.json")
        metrics = json.loads(storage.read_bytes(place))
        for number, (who, measures) in enumerate(_rows(metrics)):
            table.add_row(str(one.date) if number == 0 else "", who, *(_figure(measures, name) for name in FIGURES))
        table.add_section()
    console.print(table)


def _rows(metrics: dict) -> list[tuple[str, dict]]:
    return [
        ("twinspire, the day before's version", metrics.get("progressive") or {}),
        *((said, metrics.get("baselines", {}).get(name, {})) for name, said in BASELINES.items()),
        ("twinspire, this version, held-out users", metrics.get("holdout", {}).get("candidate") or {}),
    ]


def _figure(measures: dict, name: str) -> str:
    return f"{measures[name]:.3f}" if measures.get(name) is not None else "–"


def show(pipeline: Pipeline, days: list[date], console: Console) -> None:
    """Prints all of it."""
    registry = Registry(pipeline.registry.root, pipeline.name)
    found = [status for status in versions(registry, console) if status.date in days]
    quality(registry, pipeline, found, console)
