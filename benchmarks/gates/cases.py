"""Runs the days of recommenders whose good versions are replayed.

Each day continues from the day before, even if the gate would refuse it. Every user's measure is kept.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.quality import data
from benchmarks.quality.prepare import override
from index_builder.registry.parents import choose_best, standings
from index_builder.registry.version_log import State
from model import measure_stage
from model.evaluation.day_queries import HELD_OUT, NEXT_DAY
from model.evaluation.evaluate import by_query
from model.evaluation.evaluation_set import DayData, EvaluationSet
from model.evaluation.ranked_lists import DayLists, RankedLists, rank_encoded
from model.ranking import candidate_rows, day_orders
from model.ranking.day_orders import DayOrders
from model.ranking.fit_orders import fit_ranker
from twinspire.runs.stages import STAGES
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.attempts import BestAccepted, Parent, StageContext
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.metrics.list_metrics import slice_of
from twinspire_core.metrics.measure_names import SLICES
from twinspire_core.ranking.ranker import Ranker

ROOT = Path(__file__).resolve().parents[2]
VALUES = "values.npz"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Days of a recommender.

    Attributes:
      name: name on the command line.
      file: name of its pipeline file in `pipelines/`.
      first: the day that is trained from scratch.
      days: number of later days.
      sample: one user in this many is kept.
      settings: other values for keys of the pipeline file.
      min_users: values of `gate.min_users` to try. With smaller ones, pooled days have enough users after
        a few days instead of weeks.
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

    def numbers(self) -> range:
        """The days, oldest first."""
        return range(self.days + 1)


CASES = (
    # One in four of 2,469 households: a shop with about 600
    Case(
        name="small_shop",
        file="groceries",
        first=date(2017, 9, 30),
        days=10,
        sample=4,
        min_users=(200, 60, 40),
    ),
    # A shorter window and fewer passes than in the demo: here only differences between days count
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
    """A case and its logs.

    Attributes:
      folder: folder of its days.
    """

    case: Case
    p: Pipeline
    folder: Path

    @classmethod
    def lay_out(cls, case: Case, work: Path) -> "Run":
        """Writes the logs of a case below a folder."""
        folder = work / case.name
        if case.file == "news":
            paths = {"events": data.globo(folder, sample=case.sample)}
        else:
            paths = data.groceries(folder, sample=case.sample)
        settings = {f"source.{table}": path for table, path in paths.items()}
        p = pipeline.load(ROOT / "pipelines" / f"{case.file}.toml")
        return cls(case=case, p=override(p, {**settings, **case.settings}), folder=folder)

    def with_min_users(self, users: int) -> "Run":
        """The same days, judged with another `gate.min_users`."""
        return replace(self, p=override(self.p, {"gate.min_users": users}))

    def home(self, n: int) -> Path:
        """Folder of the n-th day."""
        return self.folder / "days" / str(n)

    def metrics(self, n: int) -> DayMetrics:
        """Measures of the n-th day."""
        return DayMetrics.read(self.home(n) / "version")

    def run_day(self, n: int) -> None:
        """Runs the n-th day, unless it is done; the last day also with half of its rows."""
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
        STAGES["features"].load()(StageContext(**context, out=features, replays=n == 0))
        recorded = _train_and_measure(context, features, home / "version")
        if n == self.case.days:
            _halve(Path(features) / feature_schema.TRANSFORMED / f"dt={self.case.day(n)}")
            half = _train_and_measure(context, features, home / "half")
            recorded["held_out:half"] = half["held_out:candidate"]
        np.savez_compressed(home / VALUES, **recorded)
        shutil.rmtree(home / "features")

    def _parent(self, n: int) -> Parent:
        home = str(self.home(n) / "version")
        version = self.case.version(n)
        return Parent(day=self.case.day(n), version=version, home=home, train=home, measure=home)

    def _best(self, n: int) -> BestAccepted:
        line = standings(self.metrics(n - 1).line, self.case.version(n - 1), self.p.gate.metric)
        state = State(fate={standing.version: "accepted" for standing in line})
        chosen = choose_best(line, state, self.case.day(n), lambda _: True)
        number = int(chosen.version[11:], 16)
        home = str(self.home(number) / "version")
        return BestAccepted(version=chosen.version, home=home, ahead=chosen.ahead)


def _train_and_measure(
    context: Mapping[str, Any], features: str, version: Path
) -> dict[str, np.ndarray]:
    """Trains and measures a version, and returns the measures of each user."""
    inputs = {"features": features, "train": str(version)}
    ctx = StageContext(**context, out=str(version), inputs=inputs)
    STAGES["train"].load()(ctx)
    recorded = _Recorded()
    measure, make = measure_stage.measure_day, day_orders.DayOrders
    day_orders.DayOrders = recorded.orders  # type: ignore[misc, assignment]
    measure_stage.measure_day = recorded.measure
    try:
        STAGES["measure"].load()(ctx)
    finally:
        measure_stage.measure_day, day_orders.DayOrders = measure, make  # type: ignore[misc]
    return recorded.values


def _halve(rows: Path) -> None:
    """Removes every other row of a day."""
    for file in rows.rglob("*.parquet"):
        pl.read_parquet(file).gather_every(2).write_parquet(file)


class _Recorded:
    """Records the measures of each user while a day is measured.

    Attributes:
      values: the gate's measure of each query, NaN for newcomers, by set and list: `held_out:candidate`.
        `held_out:users`, `:slice` and `:today` describe the queries. Broken lists are `shuffled`.
    """

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._orders: DayOrders | None = None
        self._measure = measure_stage.measure_day

    def orders(self, **arguments: Any) -> DayOrders:
        """Replaces the class `DayOrders`."""
        self._orders = DayOrders(**arguments)
        return self._orders

    def measure(
        self,
        ctx: StageContext,
        features: Path,
        day: DayData,
        lists: DayLists,
        trained: Any,
        out: Path,
    ) -> DayMetrics:
        """Replaces `measure_day`."""
        metrics = self._measure(ctx, features, day, lists, trained, out)
        held_out = day.evaluation_sets[HELD_OUT]
        self._record(ctx, "held_out", held_out, {"candidate": lists.version.ranked[HELD_OUT]})
        self.values["held_out:today"] = day.held_out_of(ctx.day)
        if ctx.parent and self._orders:
            encoded = lists.version.encoded
            assert encoded is not None
            rows = np.random.default_rng(0).permutation(len(encoded.items))
            shuffled = replace(encoded, items=encoded.items[rows])
            best = {"best": lists.best.ranked[HELD_OUT]} if lists.best else {}
            towers = {
                "baseline": lists.before.ranked[HELD_OUT],
                "shuffled": rank_encoded(shuffled, day.evaluation_sets, 100)[HELD_OUT],
            }
            self._record(ctx, "held_out", held_out, towers | best)
            self._trees(ctx, self._orders, out)
        return metrics

    def _trees(self, ctx: StageContext, orders: DayOrders, out: Path) -> None:
        shuffled = _fitted_on_shuffled(orders, out)
        today = {
            "trees": orders.ranked(orders.ranker, HELD_OUT),
            "trees_before": orders.ranked(orders.ranker_before, HELD_OUT),
            "shuffled_trees": orders.ranked(shuffled, HELD_OUT),
        }
        self._record(ctx, "today", orders.today, today)
        next_day = {
            "ranked": orders.ranked(orders.ranker_before, NEXT_DAY),
            "fixed_order": orders.day_in_order,
            "trees": orders.ranked(orders.ranker, NEXT_DAY),
            "shuffled_trees": orders.ranked(shuffled, NEXT_DAY),
        }
        self._record(ctx, "next_day", orders.day.evaluation_sets[NEXT_DAY], next_day)

    def _record(
        self,
        ctx: StageContext,
        name: str,
        evaluation_set: EvaluationSet,
        lists: Mapping[str, RankedLists | None],
    ) -> None:
        ks = ctx.pipeline.evaluation.ks
        self.values[f"{name}:users"] = evaluation_set.user
        self.values[f"{name}:slice"] = slice_of(evaluation_set.past_events, SLICES)
        for list_name, ranked in lists.items():
            if ranked:
                counted = ranked.first(max(ks)).counted(evaluation_set.exclude_seen)
                measures = by_query(evaluation_set, counted, ks)
                self.values[f"{name}:{list_name}"] = measures[ctx.pipeline.gate.metric]


def _fitted_on_shuffled(orders: DayOrders, out: Path) -> Ranker | None:
    """Trees fitted on the day's rows with randomly permuted labels."""
    if orders.ranker is None:
        return None
    rng = np.random.default_rng(0)
    rows = [
        replace(rows, taken=rng.permutation(rows.taken)) for rows in candidate_rows.read(str(out))
    ]
    ks = sorted(orders.ctx.pipeline.evaluation.ks)
    k = ks[len(ks) // 2]
    return fit_ranker(
        rows, orders.ranker.sources, orders.ranker.names, metric=f"recall@{k}", k=k, seed=0
    )
