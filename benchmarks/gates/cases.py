"""The recommenders whose good versions are replayed, and how their days are run."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from benchmarks.quality import data
from benchmarks.quality.prepare import override
from twinspire.runs import runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import STAGES
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import GateRefused

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Days of a recommender.

    Attributes:
      name: how the command line calls it.
      file: name of its pipeline file, which is the shipped one.
      first: the day that is trained from scratch.
      days: how many days are run, the first included.
      sample: one user of so many is kept.
    """

    name: str
    file: str
    first: date
    days: int
    sample: int = 1

    def dates(self) -> Iterator[date]:
        """The days, oldest first."""
        for number in range(self.days):
            yield self.first + timedelta(days=number)


CASES = (
    # 2,469 households, one of four of which makes a shop of some 600
    Case(name="small_shop", file="groceries", first=date(2017, 9, 30), days=11, sample=4),
    Case(name="groceries", file="groceries", first=date(2017, 10, 2), days=6),
    Case(name="globo", file="news", first=date(2017, 10, 6), days=5, sample=4),
)


def lay_out(case: Case, work: Path) -> Pipeline:
    """Lays out the logs of a case below a folder; returns its pipeline, which works there too."""
    home = work / case.name
    if case.file == "news":
        places = {"events": data.globo(home, sample=case.sample)}
    else:
        places = data.groceries(home, sample=case.sample)
    settings = {f"source.{table}": place for table, place in places.items()}
    settings["pipeline.work_root"] = str(home / "stages")
    settings["registry.root"] = str(home / "registry")
    return override(pipeline.load(ROOT / "pipelines" / f"{case.file}.toml"), settings)


def run_days(p: Pipeline, case: Case) -> None:
    """Runs the days in order, skipping what is done. A refusal is told, and is no end."""
    for day in case.dates():
        try:
            for stage in STAGES:
                done = runner.run_stage(DayRun(p, day), stage)
                print(case.name, day, stage, done["status"], done["seconds"], flush=True)
        except GateRefused as refused:
            print(case.name, day, refused, flush=True)
