"""Made-up months of a recommender, measured and judged by the real code: users, what versions find
for them, the line of accepted versions, and the gate's verdict of every day.

A user of a day wants one item. A version of quality q finds it for the users whose luck is below q;
luck is mostly the user's own on that day, so that two versions find it for nearly the same users,
and partly the version's.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from index_builder.gate.comparison import JudgedVersion, LineMemory
from index_builder.gate.verdict import judge
from index_builder.registry.parents import choose_best, standings
from index_builder.registry.version_log import State
from model.evaluation.day_queries import HELD_OUT
from model.evaluation.evaluate import compare, evaluate_ranked
from model.evaluation.evaluation_set import DayData, prepare
from model.evaluation.ranked_lists import DayLists, RankedLists, VersionLists
from model.evaluation.version_line import compare_with_best, line_after, remember_day
from twinspire_core.config.tables.deployment import IndexConfig, ServingConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.attempts import BestAccepted, Parent, StageContext
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures

FIRST = date(2024, 3, 1)
KS = (1,)
CORPUS = pa.table({"_item": ["wanted", "other"], "_popular": [2, 1], "_lately": [2, 1]})
_HITS, _MISSES = [[0]], [[1]]


def day(n):
    return FIRST + timedelta(days=n)


@dataclass
class History:
    """A recommender's days.

    Attributes:
      home: folder for the metrics of versions.
      users: held out each day.
      own: share of users for whom a version has separate luck.
      metrics: by version, in the order of days.
      accepted: versions, oldest first.
      quality: by version.
    """

    home: object
    users: int
    own: float = 0.1
    seed: int = 0
    gate: GateConfig = field(default_factory=lambda: GateConfig(metric="recall@1"))
    metrics: dict = field(default_factory=dict)
    accepted: list = field(default_factory=list)
    quality: dict = field(default_factory=dict)

    def run(self, n, quality):
        """Makes a version of a quality on day n; returns the gate's verdict."""
        version = f"{day(n)}-00000000"
        self.quality[version] = quality
        parent = self.accepted[-1] if self.accepted else None
        best = self._best(n) if parent else None
        tables = {"evaluation": SimpleNamespace(ks=KS), "serving": ServingConfig()}
        pipeline = SimpleNamespace(name="made-up", gate=self.gate, **tables)
        if parent:
            home = self._home(parent)
            parent = Parent(day=day(0), version=parent, home=home, train="", measure="")
        ctx = StageContext(
            pipeline=pipeline, day=day(n), mode="incremental", out="", parent=parent, best=best
        )
        metrics = self._measure(ctx, n, version)
        self.metrics[version] = metrics
        memory = LineMemory(day=day(n), best=metrics.best, line=metrics.line)
        index = {"index_recall": 1.0, "items": 1000, "baseline_items": 1000}
        judged = JudgedVersion(two_tower=metrics.holdout, memory=memory, **index)
        verdict = judge(judged, self.gate, IndexConfig())
        if verdict.accepted:
            self.accepted.append(version)
            (self.home / version).mkdir(exist_ok=True)
            metrics.write(self.home / version)
        return verdict

    def _home(self, version):
        return str(self.home / version)

    def _best(self, n):
        parent = self.accepted[-1]
        line = standings(self.metrics[parent].line, parent, self.gate.metric)
        state = State(fate=dict.fromkeys(self.accepted, "accepted"))
        chosen = choose_best(line, state, day(n), lambda version: True)
        home = self._home(chosen.version)
        return BestAccepted(home=home, **chosen._asdict())

    def _measure(self, ctx, n, version):
        days = self._days_held_out(n)
        evaluation_set = self._queries(days)
        held_out = DayData(
            corpus=CORPUS, evaluation_sets={HELD_OUT: evaluation_set}, events=CORPUS.slice(0, 0)
        )

        def lists(of):
            return RankedLists(np.concatenate([self._lists(of, one) for one in days]), None)

        ours = lists(version)
        of_version = evaluate_ranked(evaluation_set, ours, KS)
        if ctx.parent is None:
            holdout = HeldOutMeasures(users=evaluation_set.users, candidate=of_version)
            return DayMetrics(holdout=holdout, line=line_after(ctx, None))
        parents = lists(ctx.parent.version)
        of_day = DayLists(
            before=VersionLists(ranked={HELD_OUT: parents}),
            best=VersionLists(ranked={HELD_OUT: lists(ctx.best.version)}) if ctx.besides else None,
            version=VersionLists(ranked={HELD_OUT: ours}),
            sources=None,
            costly={},
        )
        return DayMetrics(
            holdout=HeldOutMeasures(
                users=evaluation_set.users,
                days=evaluation_set.days,
                candidate=of_version,
                baseline=evaluate_ranked(evaluation_set, parents, KS),
                change=compare(evaluation_set, ours.kept, parents.kept, KS),
            ),
            best=compare_with_best(ctx, held_out, of_day),
            line=line_after(ctx, remember_day(ctx, held_out, of_day, {})),
        )

    def _days_held_out(self, n):
        """The day, and if it has too few users up to six days before it."""
        enough = -(-self.gate.min_users // self.users)
        return [n - back for back in reversed(range(min(enough, 7)))]

    def _queries(self, days):
        strings = pa.list_(pa.string())
        rows = len(days) * self.users
        columns = {
            "_user": [f"u{n}-{u}" for n in days for u in range(self.users)],
            "_day": pa.array([day(n) for n in days for _ in range(self.users)], pa.date32()),
            "_truth": pa.array([["wanted"]] * rows, strings),
            "_past": pa.array([["other"]] * rows, strings),
            "_past_events": [9] * rows,
        }
        return prepare(pa.table(columns), CORPUS, resamples=200)

    def _lists(self, version, n):
        """What a version lists for the users held out of day n, [users, 1]."""
        number = (date.fromisoformat(version[:10]) - FIRST).days
        luck = np.random.default_rng([1, self.seed, n + 1000]).random(self.users)
        own = np.random.default_rng([2, self.seed, n + 1000, number])
        luck = np.where(own.random(self.users) < self.own, own.random(self.users), luck)
        found = luck < self.quality[version]
        return np.where(found[:, None], _HITS, _MISSES).astype(np.int64)
