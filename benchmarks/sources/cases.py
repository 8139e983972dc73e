"""The logs whose days are measured, and the fusions of sources that are compared on them."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.quality import data
from benchmarks.quality.data import ROOT
from benchmarks.quality.prepare import override
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import PERSONAL, TRENDING

K = 50
METRIC = f"recall@{K}"
BEFORE = ("two_tower", "past", "popular_lately", "most_popular", "co_occurrence")
"""The sources that a fusion has by default."""
FUSIONS = {
    "as now": BEFORE,
    "+ personal": (*BEFORE, PERSONAL),
    "+ trending": (*BEFORE, TRENDING),
    "+ both": (*BEFORE, PERSONAL, TRENDING),
}
ALL = FUSIONS["+ both"]


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log whose days are measured.

    Attributes:
      p: its pipeline.
      first: the day of the first version.
      folder: where its days are kept.
    """

    p: Pipeline
    first: date
    folder: Path


def groceries(folder: Path, sample: int) -> Log:
    """Purchases, trained on 60 days at first."""
    places = data.groceries(folder, sample=sample)
    p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    p = override(p, {f"source.{table}": place for table, place in places.items()})
    return Log(p=p, first=date(2017, 10, 18), folder=folder)


def globo(folder: Path, sample: int) -> Log:
    """Clicks, trained on 7 days at first."""
    place = data.globo(folder, sample=sample)
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    return Log(p=override(p, {"source.events": place}), first=date(2017, 10, 7), folder=folder)


LOGS = {"groceries": groceries, "globo": globo}
