"""The recommenders whose good versions are replayed, and how their days are run.

A day is its features and its training, as the stages make them; each goes on from the day before,
whatever the gate would say. What was found for each user is kept, in the gate's measure.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import data
from benchmarks.quality.prepare import override
from index_builder.registry.version_log import State
from model import measure_stage
from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluate import by_query
from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import costly_lists, rank_fixed
from model.evaluation.version_evaluation import EarlierVersions, VersionEvaluation
from model.fit_day import candidate_sources
from twinspire.runs.best_version import choose_best, standings
from twinspire.runs.stages import STAGES
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.stage_context import BestAccepted, Parent, StageContext
from twinspire_core.fusion.candidate_pool import DEPTH
from twinspire_core.fusion.fixed_order import FixedOrder
from twinspire_core.metrics.measure_names import SLICES
from twinspire_core.metrics.slices import slice_of

ROOT = Path(__file__).resolve().parents[2]
VALUES = "values.npz"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Days of a recommender.

    Attributes:
      name: how the command line calls it.
      file: name of its pipeline file, which is the shipped one.
      first: the day that is trained from scratch.
      days: how many days follow.
      sample: one user of so many is kept.
      settings: keys of the pipeline file that are set otherwise.
      min_users: values of `gate.min_users` that are tried. Smaller ones have days put together that
        a shop without so many users would have in weeks.
    """

    name: str
    file: str
    first: date
    days: int
    sample: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    min_users: tuple[int, ...] = (200,)

    def day(self, n: int) -> date:
        """The n-th day; 0 is the first."""
        return self.first + timedelta(days=n)

    def version(self, n: int) -> str:
        """An id for the version of the n-th day."""
        return f"{self.day(n)}-{n:08x}"

    def numbers(self) -> Iterator[int]:
        """The days, oldest first."""
        yield from range(self.days + 1)


CASES = (
    # 2,469 households, one of four of which makes a shop of some 600
    Case(
        name="small_shop",
        file="groceries",
        first=date(2017, 9, 30),
        days=10,
        sample=4,
        min_users=(200, 60, 40),
    ),
    # Less of the past, and fewer passes over it, than the demo: what is asked is how days differ
    Case(
        name="groceries",
        file="groceries",
        first=date(2017, 10, 1),
        days=5,
        settings={"window.train_days": 20, "train.epochs": 3},
    ),
    Case(name="globo", file="news", first=date(2017, 10, 8), days=4, sample=8),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A case with its logs laid out.

    Attributes:
      case: which.
      p: its pipeline.
      folder: where its days are kept.
    """

    case: Case
    p: Pipeline
    folder: Path

    @classmethod
    def lay_out(cls, case: Case, work: Path) -> "Run":
        """Lays out the logs of a case below a folder."""
        folder = work / case.name
        if case.file == "news":
            places = {"events": data.globo(folder, sample=case.sample)}
        else:
            places = data.groceries(folder, sample=case.sample)
        settings = {f"source.{table}": place for table, place in places.items()}
        p = pipeline.load(ROOT / "pipelines" / f"{case.file}.toml")
        return cls(case=case, p=override(p, {**settings, **case.settings}), folder=folder)

    def with_min_users(self, users: int) -> "Run":
        """The same days, judged with another `gate.min_users`."""
        return replace(self, p=override(self.p, {"gate.min_users": users}))

    def home(self, n: int) -> Path:
        """Where the n-th day is kept."""
        return self.folder / "days" / str(n)

    def metrics(self, n: int) -> DayMetrics:
        """What was measured of the n-th day."""
        return DayMetrics.read(self.home(n) / "version")

    def run_day(self, n: int) -> None:
        """Makes the n-th day, unless it is there."""
        home = self.home(n)
        if (home / VALUES).exists():
            return
        shutil.rmtree(home, ignore_errors=True)
        context: dict[str, Any] = {"pipeline": self.p, "day": self.case.day(n), "mode": "full"}
        if n:
            context |= {
                "mode": "incremental",
                "parent": self._parent(n - 1),
                "best": self._best(n),
            }
        features = str(home / "features")
        STAGES["features"].load()(StageContext(**context, out=features))
        # As a version holds what both of them made
        version = str(home / "version")
        inputs = {"features": features, "train": version}
        ctx = StageContext(**context, out=version, inputs=inputs)
        STAGES["train"].load()(ctx)
        with _recorded() as recorded:
            STAGES["measure"].load()(ctx)
        np.savez_compressed(home / VALUES, **recorded)
        shutil.rmtree(home / "features")

    def _parent(self, n: int) -> Parent:
        home = str(self.home(n) / "version")
        version = self.case.version(n)
        return Parent(day=self.case.day(n), version=version, home=home, train=home, measure=home)

    def _best(self, n: int) -> BestAccepted:
        line = standings(self.metrics(n - 1).line, self.case.version(n - 1), self.p.gate.metric)
        state = State(fate={one.version: "accepted" for one in line})
        chosen = choose_best(line, state, self.case.day(n), lambda _: True)
        number = int(chosen.version[11:], 16)
        home = str(self.home(number) / "version")
        return BestAccepted(version=chosen.version, home=home, ahead=chosen.ahead)


@contextmanager
def _recorded() -> Iterator[dict[str, np.ndarray]]:
    """What is found for each user on the day that is trained meanwhile."""
    recorded: dict[str, np.ndarray] = {}
    measure = measure_stage.measure_day

    def measure_and_record(
        ctx: StageContext,
        features: Path,
        day: DayData,
        before: EarlierVersions,
        trained: Any,
        version: VersionEvaluation,
        out: Path,
    ) -> DayMetrics:
        metrics = measure(ctx, features, day, before, trained, version, out)
        recorded.update(_values(ctx, features, day, before, version, out))
        return metrics

    measure_stage.measure_day = measure_and_record
    try:
        yield recorded
    finally:
        measure_stage.measure_day = measure


def _values(
    ctx: StageContext,
    features: Path,
    day: DayData,
    before: EarlierVersions,
    version: VersionEvaluation,
    out: Path,
) -> dict[str, np.ndarray]:
    """The gate's measure of each query by what listed, nan for newcomers, as `held_out:candidate`.

    `held_out:users`, `held_out:slice`, `held_out:today` and those of `next_day` say whose they are.
    """
    held_out = day.evaluation_sets[HELD_OUT]
    next_day = day.evaluation_sets[NEXT_DAY]
    values = {}

    def add(name: str, evaluation_set: EvaluationSet, ranked: RankedLists) -> None:
        metric = ctx.pipeline.gate.metric
        ks = ctx.pipeline.evaluation.ks
        lists = ranked.first(max(ks)).counted(evaluation_set.exclude_seen)
        values[name] = by_query(evaluation_set, lists, ks)[metric]

    for name, evaluation_set in (("held_out", held_out), ("next_day", next_day)):
        bounds = SLICES
        values[f"{name}:users"] = evaluation_set.user
        values[f"{name}:slice"] = slice_of(evaluation_set.past_events, bounds)
    values["held_out:today"] = day.held_out_of(ctx.day)
    add("held_out:candidate", held_out, version.lists[HELD_OUT])
    if ctx.parent is None:
        return values
    add("held_out:baseline", held_out, before.parent.lists[HELD_OUT])
    if before.best:
        add("held_out:best", held_out, before.best.lists)
    sources = candidate_sources(ctx, features, day)
    k = max(ctx.pipeline.evaluation.ks)
    for name, home, lists in (
        ("candidate", out, version.lists),
        ("baseline", Path(ctx.parent.home), before.parent.lists),
    ):
        order = FixedOrder.read(home)
        listing = sources.with_half_life(order.half_life)
        costly = costly_lists(listing, held_out, max(k, DEPTH))
        known = {**costly, TWO_TOWER: lists[HELD_OUT]}
        add(f"held_out:{name}_order", held_out, rank_fixed(order, listing, held_out, known, k))
    return values
