"""What the demo has to show in the end: versions, their quality beside the baselines',
recommendations.
"""

from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.grocery_demo import households
from index_builder.registry.registry import Registry
from index_builder.registry.versions import Status
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures, value_of

FIGURES = {
    "recall@10": "recall\n@10",
    "recall@50": "recall\n@50",
    "recall@100": "recall\n@100",
    "ndcg@10": "nDCG\n@10",
    "hit_rate@10": "hits\n@10",
    "coverage@100": "coverage\n@100",
}
OLDER, MIX, OWN = "the day before's model", "  mixed with those below", "the day's own model *"
BASELINES = {
    "most_popular": "most popular",
    "popular_lately": "popular lately",
    "past": "bought before",
    "co_occurrence": "bought together",
}
EXPLAINED = f"""\
As the day begins: what will each household that has a past buy today?
  {OLDER}: it has not seen the day (progressive)
  {MIX.strip()}: what that version recommends, its sources mixed
  {OWN}: asked about the households held out of its training
recall: share of a household's purchases among the first n offered
hits: share of households with at least one of their purchases among them
coverage: share of all products that were offered to anybody"""


def show(pipeline: Pipeline, days: list[date], root: Path, console: Console) -> None:
    """Prints all of it, and what to type next.

    Args:
      pipeline: whose versions.
      days: those of the backfill.
      root: the folder from which the commands that are named work.
      console: where to.
    """
    registry = Registry(pipeline.registry.root, pipeline.name)
    found = [status for status in versions(registry, console) if status.date in days]
    quality(registry, found, console)
    chosen = households.show(pipeline, console)
    console.print(Text(f"\nWhat to type next, in {root}", style="bold"))
    for command, what in _next(pipeline, days, chosen):
        console.print(Text(f"  # {what}", style="dim"))
        console.print(Text(f"  {command}"), soft_wrap=True)


def versions(registry: Registry, console: Console) -> list[Status]:
    """Prints the versions, oldest first, and returns them."""
    found = sorted(registry.statuses(), key=lambda status: status.date)
    console.print("\n[bold]Versions[/]")
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for one in found:
        # `show` has the gate's notes
        reason = "accepted" if one.reason.startswith("accepted") else one.reason
        table.add_row(
            one.version, one.status, reason, style="green" if one.status == "live" else ""
        )
    console.print(table)
    return found


def quality(registry: Registry, found: list[Status], console: Console) -> None:
    """Prints each day's figures: of the model before it saw the day, after, and of lists that need
    no model.
    """
    console.print("\n[bold]Quality, by day[/]")
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("day", no_wrap=True)
    table.add_column("who recommends", no_wrap=True)
    for shown in FIGURES.values():
        table.add_column(shown, justify="right", no_wrap=True)
    for one in found:
        metrics = DayMetrics.read(registry.folder(one.version))
        for number, (who, measures) in enumerate(_rows(metrics)):
            day = str(one.date) if number == 0 else ""
            table.add_row(
                day,
                who,
                *(_figure(measures, name) for name in FIGURES),
                style="bold" if not number else "",
            )
    console.print(table)
    console.print(Text(EXPLAINED, style="dim"))


def _rows(metrics: DayMetrics) -> list[tuple[str, Measures | None]]:
    rows = [(OLDER, metrics.progressive)]
    if metrics.mix.progressive:
        rows.append((MIX, metrics.mix.progressive))
    for name, shown in BASELINES.items():
        if name in metrics.baselines:
            rows.append((shown, metrics.baselines[name]))
    return [*rows, (OWN, metrics.holdout.candidate)]


def _figure(measures: Measures | None, name: str) -> str:
    value = value_of(measures, name)
    return "–" if value is None else f"{value:.3f}"


def _next(pipeline: Pipeline, days: list[date], chosen: list[str]) -> list[tuple[str, str]]:
    name, twinspire = pipeline.name, ".venv/bin/twinspire"
    return [
        (
            f"{twinspire} recommend {name} --user {chosen[0]} --exclude-seen",
            "what they have not bought yet",
        ),
        (f"{twinspire} versions {name}", "what there is, and how good it was on the day after"),
        (f"{twinspire} show {name}", "all about the live version"),
        (f"{twinspire} report {name} --open", "its report, in a browser"),
        (
            f"{twinspire} run {name} --date {days[-1] + timedelta(days=1)}",
            "the next day, without Airflow",
        ),
        ("make airflow", "Airflow's UI: look at these runs, start one, create a backfill"),
        (
            f"{twinspire} init --help",
            "a recommender from your own logs; then docs/pipeline-file.md",
        ),
    ]
