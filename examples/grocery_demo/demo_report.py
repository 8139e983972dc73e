"""What the demo has to show in the end: versions, their quality beside the baselines',
recommendations.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console
from rich.text import Text

from examples.grocery_demo import households
from index_builder.registry.registry import Registry
from index_builder.registry.versions import Status
from twinspire.cli.terminal_tables import terminal_table
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import MIX, TWO_TOWER
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.paired_differences import PairedDifferences
from twinspire_core.display.measured_lists import EvaluatedSet, MeasuredLists, list_name, on_the_day
from twinspire_core.display.quality_tables import headline, sets_table
from twinspire_core.display.table import Style, Table, in_style

# Without the hit rate, so that a terminal of 80 columns shows the rest in full.
MEASURES = [name for name in headline([10, 50, 100]) if not name.startswith("hit_rate")]
EXPLAINED = """\
As the day begins: what will each household that has a past buy today?
  the version before: it has not seen the day (progressive)
  trained up to the day: the first version, before it was trained on its own day
  its mix of sources: what that version recommends, mixed with the lists below
  its ranker: the same candidates, by all that is known of household and product
  this version: made from the day, asked about the households held out of its training
recall: share of a household's purchases among the first n offered
nDCG: the same, with more weight on the first places
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
    rows = []
    for one in found:
        # `show` has the gate's notes
        reason = "accepted" if one.reason.startswith("accepted") else one.reason
        style = Style.GOOD if one.status == "live" else None
        rows.append(in_style([one.version, one.status, reason], style))
    console.print(terminal_table(Table(head=["", "", ""], rows=rows, names=(0, 1), prose=(2,))))
    return found


def quality(registry: Registry, found: list[Status], console: Console) -> None:
    """Prints each day's figures: of the model before it saw the day, after, and of lists that need
    no model.
    """
    console.print("\n[bold]Quality, by day[/]")
    metrics = {one.date: DayMetrics.read(registry.folder(one.version)) for one in found}
    days = [_lists(measured, day) for day, measured in metrics.items()]
    console.print(terminal_table(sets_table(days, MEASURES)))
    console.print(Text(EXPLAINED, style="dim"))
    added = what_ranker_adds([*metrics.values()], "recall@50")
    if added:
        console.print(Text(added))


def what_ranker_adds(days: Sequence[DayMetrics], measure: str) -> str:
    """What the rankers of some days found, beside the mixes and beside the source that found most;
    empty where no ranker was measured.
    """
    rankers = [day.ranker for day in days if day.ranker and day.ranker.beside_mix]
    if not rankers:
        return ""
    beside = {MIX: [one.beside_mix for one in rankers if one.beside_mix]}
    for name in rankers[0].beside_sources:
        beside[name] = [one.beside_sources[name] for one in rankers if name in one.beside_sources]
    users = sum(one.users for one in beside[MIX])
    found = {name: _mean_of(differences, measure) for name, differences in beside.items()}
    ranked, mix = found.pop(MIX)
    best = max(found, key=lambda name: found[name][1])
    return (
        f"Over {users:,} households of {len(rankers)} days the ranker found {measure} of"
        f" {ranked:.3f}, the mix {mix:.3f}, the best source alone ({list_name(best)})"
        f" {found[best][1]:.3f}. It serves while it is surely better: `twinspire show` says."
    )


def _mean_of(days: Sequence[PairedDifferences], measure: str) -> tuple[float, float]:
    """The means of a measure of lists and of those that they were compared with, over users."""
    users = sum(day.users for day in days)
    base = sum(day.users * day.by_measure[measure].base for day in days) / users
    difference = sum(day.users * day.by_measure[measure].mean for day in days) / users
    return base + difference, base


def _lists(metrics: DayMetrics, day: date) -> EvaluatedSet:
    """All lists of the day as it began, and what its own version finds for held-out users."""
    lists = [*on_the_day(metrics, day).lists]
    if own := metrics.holdout.candidate:
        lists.append(MeasuredLists(TWO_TOWER, "this version", own))
    return EvaluatedSet(str(day), str(day), "", lists)


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
