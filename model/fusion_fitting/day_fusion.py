"""The day's fusion: measured as it was before the day (model/fusion_fitting/fusion_measures.py),
then fitted anew for the days to come.

    day D      The parent's fusion is measured on D's queries: neither its towers nor its weights
               have seen D. Then weights are fitted on what the parent's towers and the other
               sources listed for D, without the users held out of D's training. The version of D
               carries these weights. Where D has too few users, lists of days before D that were
               made in the same way are fitted on too (model/fusion_fitting/stored_lists.py).
    held out   The new weights and the parent's are compared on D's held-out users, whom neither has
               seen.
    day D + 1  The version of D is the parent.

After a gap the parent's towers list as towers do that are days old: its weights stay until there
are lists of towers that are not.

A first version is trained up to its last day, and what it lists then stands for a parent's lists.
Without a day before there is nobody who could list anything for its day: weights are then fitted on
what its own towers list for D's held-out users. These users are no test of the weights, so nothing
is measured of that fusion before D + 1.

Until enough users were there, weights that serve logs of its kind are served
(model/fusion_fitting/prior_weights.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.source_lists import SourceLists, queries_with
from model.fusion_fitting.fusion_weights import MAX_QUERIES, fit_weights
from model.fusion_fitting.prior_weights import kind_of_log, prior_weights
from model.fusion_fitting.stored_lists import (
    MOST_OF_A_DAY,
    DayLists,
    evenly,
    keep_needed,
    users_by_slice,
)
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts.fusion_file import HELD_OUT_USERS, PRIOR, PROGRESSIVE, FittedOn
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.fusion.candidate_pool import pool_candidates
from twinspire_core.fusion.fuse import DEPTH, Fusion
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.measure_names import SLICES
from twinspire_core.metrics.slices import slice_of
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources

LEAST_USERS = 100
"""Users needed to fit on; a slice of fewer has the weights of all users."""
MAX_GAP = 1
"""Days with logs between the parent and the day after which the parent's lists are still such as it
will be asked for.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFusion:
    """What a day's fusion is fitted and measured on.

    Attributes:
      ctx: pipeline, day and parent.
      day: the corpus as of the start of the day, and the evaluation sets.
      sources: of that corpus, with the parent's constants.
      fitted_sources: the same with the constants of the day's version, which were fitted on users
        who were not held out.
      parent_lists: the parent's lists by evaluation set, at least `DEPTH` long, or those of a first
        version before it was trained on the day; empty without either.
      lists: this version's lists for users held out, likewise.
      inherited: the parent's fusion, if it has one.
      stored: lists of days before, from the parent's attempt.
      costly: from `costly_lists` by evaluation set, at least `DEPTH` long; sets that are not there
        are retrieved when they are needed.
    """

    ctx: StageContext
    day: DayData
    sources: CandidateSources
    fitted_sources: CandidateSources
    parent_lists: Mapping[str, RankedLists]
    lists: Mapping[str, RankedLists]
    inherited: Fusion | None
    stored: Sequence[DayLists] = ()
    costly: Mapping[str, SourceLists] = field(default_factory=dict)

    def lists_to_fit_on(self) -> list[DayLists]:
        """Lists of the newest days, today's first, as many as are needed; where nothing had been
        trained before the day, those of users held out, from the version's own towers.
        """
        settings = self.ctx.pipeline.mix
        if not settings.sources:
            return []
        days = list(self.stored)
        if not self.parent_lists:
            days = [self._lists_of_day(HELD_OUT, self.lists[HELD_OUT])]
        elif not comes_after_gap(self.ctx):
            days.append(self._lists_of_day(NEXT_DAY, self.parent_lists[NEXT_DAY]))
        return keep_needed(
            days,
            self.ctx.day,
            sources=settings.sources,
            bounds=SLICES,
            enough=MAX_QUERIES,
            exclude_seen=self.day.evaluation_sets[NEXT_DAY].exclude_seen,
        )

    def fit(self, days: Sequence[DayLists]) -> Fusion | None:
        """The fusion that the day's version carries.

        With too few users to fit on it is the parent's, if that has the same sources and slices
        and was fitted; else one of prior weights, for a log of this kind. None if the pipeline file
        names no sources; the two-tower is then served alone.

        Args:
          days: what `lists_to_fit_on` returned.
        """
        settings = self.ctx.pipeline.mix
        bounds = SLICES
        if not settings.sources:
            return None
        inherited = self._inherited_if_alike()
        users = users_by_slice(days, bounds)
        too_few = users.sum() < LEAST_USERS
        if inherited and (too_few or comes_after_gap(self.ctx)):
            return inherited
        if too_few:
            return self._prior(days, users)
        # Slices with too few users share weights that are fitted on everybody.
        enough = users >= LEAST_USERS
        if not enough.all():
            shared_weights = self._fit_weights(days, range(len(users)))
        weights = []
        for number, has_own in enumerate(enough):
            weights.append(self._fit_weights(days, [number]) if has_own else shared_weights)
        return Fusion(
            sources=settings.sources,
            bounds=bounds,
            weights=np.stack(weights).round(6),
            fitted=self._fitted(days, users, enough),
        )

    def _lists_of_day(self, name: str, two_tower: RankedLists) -> DayLists:
        """What the sources list for the queries of an evaluation set that may be fitted on, and for
        those that are held out of it: lists of the kind that counts.

        Sources have the constants that the day's version carries, as its weights do: a source that
        finds more with another half-life is to be given the weight of what it will list.

        Args:
          name: of the set.
          two_tower: the lists of the towers for it.
        """
        evaluation_set = self.day.evaluation_sets[name]
        exclude_seen = evaluation_set.exclude_seen
        user_slice = slice_of(evaluation_set.past_events, SLICES)
        if name == NEXT_DAY:
            # They are to judge the weights, here and in the gate.
            held_out = evaluation_set.queries.column("_holdout").to_numpy()
            usable = np.ones(len(held_out), bool)
        else:
            usable = self.held_out_of_today()
            held_out = np.zeros(len(usable), bool)
        group = user_slice * 2 + held_out
        kept = [np.zeros(0, np.int64)]
        for number in np.unique(group):
            chosen = np.flatnonzero(usable & (group == number))
            kept.append(evenly(chosen, MOST_OF_A_DAY))
        rows = np.sort(np.concatenate(kept))
        costly = self.costly.get(name, {})
        alike = alike_with_new_constants(costly, self.sources, self.fitted_sources)
        known = {**alike, TWO_TOWER: two_tower}
        queries = queries_with(evaluation_set, known, exclude_seen=exclude_seen).take(rows)
        exclude = queries.seen if exclude_seen else None
        lists = self.fitted_sources.retrieve(
            self.ctx.pipeline.mix.sources, queries, DEPTH, exclude=exclude
        )
        return DayLists(
            day=self.ctx.day,
            two_tower=self.ctx.parent.version if self.ctx.parent else "",
            exclude_seen=exclude_seen,
            past_events=evaluation_set.past_events[rows],
            held_out=held_out[rows],
            taken=evaluation_set.truth.take(rows),
            lists=lists,
        )

    def held_out_of_today(self) -> np.ndarray:
        """Which held-out queries are of the day itself, [U] bool.

        What users of earlier days took has been counted since: the day's tables of popularity and
        co-occurrence know their answers.
        """
        return self.day.held_out_of(self.ctx.day)

    def _inherited_if_alike(self) -> Fusion | None:
        """The parent's fusion, if it was fitted for today's sources and slices."""
        inherited = self.inherited
        if inherited is None or inherited.is_prior:
            return None
        if inherited.sources != self.ctx.pipeline.mix.sources:
            return None
        return inherited if inherited.bounds == SLICES else None

    def _prior(self, days: Sequence[DayLists], users: np.ndarray) -> Fusion:
        """A fusion of prior weights, the same for all slices."""
        settings = self.ctx.pipeline.mix
        bounds = SLICES
        kind = kind_of_log(days)
        weights = prior_weights(settings.sources, kind)
        names = measure_names.names(bounds)
        return Fusion(
            sources=settings.sources,
            bounds=bounds,
            weights=np.tile(weights, (len(names), 1)).round(6),
            fitted=FittedOn(
                on=PRIOR,
                day=str(self.ctx.day),
                users=dict(zip(names, users.tolist(), strict=True)),
                kind=kind,
            ),
        )

    def _fitted(self, days: Sequence[DayLists], users: np.ndarray, enough: np.ndarray) -> FittedOn:
        """What the fusion's file says of the fit."""
        names = measure_names.names(SLICES)
        return FittedOn(
            on=PROGRESSIVE if self.parent_lists else HELD_OUT_USERS,
            day=str(days[0].day),
            since=str(days[-1].day),
            two_tower=days[0].two_tower or None,
            metric=f"recall@{self._ks()[0]}",
            users=dict(zip(names, users.tolist(), strict=True)),
            own_weights=[name for name, own in zip(names, enough, strict=True) if own],
        )

    def _ks(self) -> list[int]:
        """The lengths of lists that weights are fitted for, the more important first."""
        ks = sorted(self.ctx.pipeline.evaluation.ks)
        return [ks[len(ks) // 2], ks[0]]

    def _fit_weights(self, days: Sequence[DayLists], slices: Sequence[int]) -> np.ndarray:
        """[S] weights fitted on the users of some slices who were not held out."""
        bounds = SLICES
        chosen = []
        for lists in days:
            in_slices = np.isin(slice_of(lists.past_events, bounds), slices)
            chosen.append(lists.take(np.flatnonzero(in_slices & ~lists.held_out)))
        users = sum(lists.users for lists in chosen)
        rows = evenly(np.arange(users), MAX_QUERIES)
        by_source = []
        for name in self.ctx.pipeline.mix.sources:
            items = [lists.lists[name].items for lists in chosen]
            by_source.append(np.concatenate(items)[rows])
        taken = _joined([lists.taken for lists in chosen]).take(rows)
        return fit_weights(pool_candidates(by_source), taken, self._ks())


def comes_after_gap(ctx: StageContext) -> bool:
    """Whether the parent is so old that its lists for the day are not those of a fresh one."""
    if ctx.parent and ctx.mode == "full":
        # From scratch no day is missing in what is trained on, so that no gap is told.
        missing = (ctx.day - ctx.parent.day).days - 1
    else:
        missing = sum((gap.last - gap.first).days + 1 for gap in ctx.gaps)
    return missing > MAX_GAP


def alike_with_new_constants(
    lists: SourceLists, before: CandidateSources, now: CandidateSources
) -> SourceLists:
    """The lists of sources whose constant is not another one now.

    Args:
      lists: by source, with the constants of then.
      before: the sources of then.
      now: the sources with the constants of now.
    """
    then = before.tables.constants
    constants = now.tables.constants
    return {name: one for name, one in lists.items() if then.get(name) == constants.get(name)}


def _joined(parts: Sequence[Ragged]) -> Ragged:
    """The lists of all parts, one part after the other."""
    values = np.concatenate([part.values for part in parts])
    return Ragged.of_lengths(values, np.concatenate([part.lengths for part in parts]))
