"""Fits the fixed order and the ranker of a day's version, and measures them and those of the parent.

On the day: the parent's fixed order and ranker are measured on all queries of the day, which neither was
fitted on. On held-out users: the new fixed order is measured, and the new ranker is compared with the
parent's; if there are few held-out users, also on all users of the day. Both rankers then use the parent's
vectors, which have not seen the day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.evaluation.day_queries import HELD_OUT, NEXT_DAY
from model.evaluation.evaluate import beside_simple_lists, evaluate_ranked, measure_against
from model.evaluation.evaluation_set import DayData, EvaluationSet, prepare_whole
from model.evaluation.ranked_lists import (
    DayLists,
    RankedLists,
    SourceLists,
    inherited_order,
    rank_fixed,
    rank_queries,
)
from model.ranking import candidate_rows
from model.ranking.candidate_rows import RankingRows, listed_by
from model.ranking.fit_orders import choose_half_life, fit_ranker, kind_of_log, sources_to_rank
from model.ranking.fitting_days import rows_to_fit_on
from twinspire_core import storage
from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.contracts import ranker_files
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import FixedOrderMeasures, HeldOutMeasures, RankerMeasures
from twinspire_core.contracts.ranker_files import RankerFile, RankerFormat
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker, RankingFeatures
from twinspire_core.sources.source import SourceTables

# Days after which trees are fitted again. Fitting is most of what `measure` costs.
_LONGEST_KEPT = 7
# Trees are kept for at most this share of the number of days that they were fitted on.
_KEPT_SHARE = 0.25


def fit_day(
    ctx: StageContext, features: Path, day: DayData, lists: DayLists, out: Path
) -> tuple[FixedOrderMeasures, RankerMeasures | None]:
    """Fits the fixed order and the ranker, writes both and their rows, and measures them.

    Args:
      features: local folder of the features attempt.
      day: the queries, and the items that the users took.
      lists: of the parent, the day's version, and the sources.
      out: local folder to write to.

    Returns: measures of the fixed orders; and those of the rankers, None with only one source.
    """
    rows = rows_to_fit_on(ctx, features, day, lists)
    candidate_rows.write(out, rows)
    order = _choose_order(ctx, rows)
    order.write(out)
    has_ranker = ctx.pipeline.sources.several
    ranker_before = inherited_ranker(ctx)
    ranker = None
    if has_ranker:
        ranker = fit_day_ranker(ctx, lists.sources.tables, rows, ranker_before)
    # Also if it is the parent's: a version is served from its own files.
    if ranker:
        (out / RankerFile.FILE).write_bytes(ranker.described.dump())
        (out / ranker_files.MODEL).write_text(ranker.model)
    orders = DayOrders(
        ctx=ctx,
        day=day,
        lists=lists,
        order_before=inherited_order(ctx),
        order=order,
        ranker_before=ranker_before,
        ranker=ranker,
    )
    return orders.of_fixed_order(), orders.of_ranker() if has_ranker else None


def _choose_order(ctx: StageContext, rows: Sequence[RankingRows]) -> FixedOrder:
    """The fixed order of the day's version. Without rows to choose by, it is for the same kind of log as
    the parent's.
    """
    sources = ctx.pipeline.sources.use
    before = inherited_order(ctx)
    if before and not rows:
        return FixedOrder.of(sources, before.kind, before.half_life)
    kind = kind_of_log(rows, exclude_seen=ctx.pipeline.serving.exclude_seen)
    return FixedOrder.of(sources, kind, choose_half_life(rows))


def fit_day_ranker(
    ctx: StageContext,
    tables: SourceTables,
    days: Sequence[RankingRows],
    before: Ranker | None,
) -> Ranker | None:
    """The ranker of the day's version: the parent's if it is recent enough, else a new one; None with too
    few users.

    Args:
      tables: tables of the sources. They decide which features can be made.
      days: rows to fit on, newest day first.
      before: the parent's ranker.
    """
    pipeline = ctx.pipeline
    ks = sorted(pipeline.evaluation.ks)
    k = ks[len(ks) // 2]
    metric = f"recall@{k}"
    sources = sources_to_rank(days, pipeline.sources.use)
    names = RankingFeatures.of(tables).names(sources)
    # Towers trained from scratch give other cosines than the parent's trees were fitted on.
    if before and ctx.mode != "full" and _is_young(before, ctx.day):
        fitted_for = before.sources, before.names, before.described.fitted.metric
        if fitted_for == (tuple(sources), tuple(names), metric):
            return before
    return fit_ranker(days, sources, names, metric=metric, k=k, seed=pipeline.train.seed)


def _is_young(ranker: Ranker, day: date) -> bool:
    """Whether trees still order the next day as well as new ones would."""
    fitted = ranker.described.fitted.days
    age = (day - date.fromisoformat(max(fitted))).days
    # Trees that were fitted on few days gain most from one more day.
    return age < min(_LONGEST_KEPT, len(fitted) * _KEPT_SHARE)


def inherited_ranker(ctx: StageContext) -> Ranker | None:
    """The parent's ranker; None if it was fitted for other sources than those of the pipeline file, or has
    another format.
    """
    described = storage.join(ctx.parent.home, RankerFile.FILE) if ctx.parent else None
    if ctx.parent is None or described is None or not storage.exists(described):
        return None
    content = storage.read_bytes(described)
    if RankerFormat.parse(content).format != ranker_files.FORMAT:
        return None
    model = storage.read_bytes(storage.join(ctx.parent.home, ranker_files.MODEL))
    ranker = Ranker.parse(model, content)
    return ranker if listed_by(ranker.sources, ctx.pipeline.sources.use) else None


@dataclass(frozen=True, kw_only=True)
class DayOrders:
    """Measures the fixed orders and the rankers of the parent and of the day's version.

    Attributes:
      day: the corpus as of the start of the day, and the evaluation sets.
      lists: of the parent, of the day's version, and of the sources with the parent's half-life.
      order_before: the parent's fixed order; None without a parent.
      order: the fixed order of the day's version.
      ranker_before: the parent's ranker, if it has one for today's sources.
      ranker: the ranker of the day's version; None without one.
    """

    ctx: StageContext
    day: DayData
    lists: DayLists
    order_before: FixedOrder | None
    order: FixedOrder
    ranker_before: Ranker | None
    ranker: Ranker | None

    def of_fixed_order(self) -> FixedOrderMeasures:
        """The entry of metrics.json about lists in the fixed order."""
        ks = self.ctx.pipeline.evaluation.ks
        day, today = self.day.evaluation_sets[NEXT_DAY], self.today
        on_day = self.day_in_order
        # This version's order has a half-life of its own.
        sources = self.lists.sources.with_half_life(self.order.half_life)
        ready = self._ready(HELD_OUT, self.lists.version.ranked[HELD_OUT])
        ordered = rank_fixed(self.order, sources, today, ready, max(ks))
        return FixedOrderMeasures(
            progressive=evaluate_ranked(day, on_day, ks) if on_day else None,
            holdout=HeldOutMeasures(
                users=today.users, candidate=evaluate_ranked(today, ordered, ks)
            ),
            beside_simple=beside_simple_lists(day, on_day, ks),
            own_beside_simple=beside_simple_lists(today, ordered, ks),
        )

    def of_ranker(self) -> RankerMeasures:
        """The entry of metrics.json about rankers."""
        ks = self.ctx.pipeline.evaluation.ks
        day = self.day.evaluation_sets[NEXT_DAY]
        ranked = self.ranked(self.ranker_before, NEXT_DAY)
        few = self.today.users < self.ctx.pipeline.gate.min_users
        is_new = self.ranker is not self.ranker_before
        return RankerMeasures(
            progressive=evaluate_ranked(day, ranked, ks) if ranked else None,
            beside_simple=beside_simple_lists(day, ranked, ks),
            holdout=self._compare_trees(HELD_OUT),
            on_day=self._compare_trees(NEXT_DAY) if few and is_new else HeldOutMeasures(),
            fitted=self.ranker.described.fitted if self.ranker else None,
        )

    @cached_property
    def today(self) -> EvaluationSet:
        """The held-out users of the day itself. Held-out users of earlier days would be no test: sources as
        of the start of the day have counted what these took.
        """
        queries = self.day.evaluation_sets[HELD_OUT].queries
        return prepare_whole(
            queries.filter(pa.array(self._is_of_today)),
            self.day.corpus,
            exclude_seen=self.day.evaluation_sets[NEXT_DAY].exclude_seen,
        )

    @cached_property
    def _is_of_today(self) -> np.ndarray:
        return self.day.held_out_of(self.ctx.day)

    @cached_property
    def day_in_order(self) -> RankedLists | None:
        """Lists for the day in the parent's fixed order; None without a parent."""
        if self.order_before is None or NEXT_DAY not in self.lists.before.ranked:
            return None
        day = self.day.evaluation_sets[NEXT_DAY]
        longest = max(self.ctx.pipeline.evaluation.ks)
        before = self.lists.before.ranked[NEXT_DAY]
        ready = self._ready(NEXT_DAY, before)
        return rank_fixed(self.order_before, self.lists.sources, day, ready, longest)

    def _ready(self, name: str, two_tower: RankedLists) -> SourceLists:
        """Lists of the costly sources and of a two-tower; for `HELD_OUT`, of the day's own users."""
        ready = {**self.lists.costly[name], TWO_TOWER: two_tower}
        if name == NEXT_DAY:
            return ready
        return {source: lists.of(self._is_of_today) for source, lists in ready.items()}

    def _compare_trees(self, name: str) -> HeldOutMeasures:
        """Compares the trees of this version and of the parent on the same candidates."""
        if self.ranker is None:
            return HeldOutMeasures()
        asked = self.today if name == HELD_OUT else self.day.evaluation_sets[NEXT_DAY]
        ks = self.ctx.pipeline.evaluation.ks
        after, before = self.ranked(self.ranker, name), self.ranked(self.ranker_before, name)
        return HeldOutMeasures(**measure_against(asked, after, before, ks))

    def ranked(self, ranker: Ranker | None, name: str) -> RankedLists | None:
        """Lists of a ranker for all users of the day (`NEXT_DAY`), or for those held out of the day
        itself (`HELD_OUT`); None without a ranker, or if one of its features can no longer be made.
        """
        parent = self.lists.before
        if ranker is None or name not in parent.ranked:
            return None
        sources = self.lists.sources
        made = RankingFeatures.of(sources.tables).names(ranker.sources)
        if not set(ranker.names) <= set(made):
            # For example, it uses an attribute that the pipeline file no longer declares.
            return None
        # The parent's vectors and lists, for both rankers: only the trees may make a difference.
        vectors = parent.vectors(name)
        asked = self.day.evaluation_sets[NEXT_DAY]
        if name == HELD_OUT:
            asked = self.today
            vectors = Vectors(queries=vectors.queries[self._is_of_today], items=vectors.items)
        ready = self._ready(name, parent.ranked[name])
        longest = max(self.ctx.pipeline.evaluation.ks)
        return rank_queries(ranker, sources, asked, vectors, ready, longest)
