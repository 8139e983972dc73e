"""Chooses the days whose rows a ranker is fitted on: the day itself and the days before it.

The parent has kept rows of the days before. A first day, or a day after a gap, replays them instead: it
makes the rows that earlier versions would have kept. Candidates and features of a replayed day are as of its
start, without towers. Tables of sources are up to seven days old, as in a version that is served while the
next days fail.

After a gap, the day itself has no rows: the parent's towers are days old, so their lists are worse than
those that the ranker will order.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_queries import BY_HISTORY, NEXT_DAY, queries_by_history
from model.evaluation.evaluation_set import DayData, EvaluationSet, ask_by_history, prepare
from model.evaluation.ranked_lists import DayLists
from model.ranking import candidate_rows
from model.ranking.candidate_rows import (
    Asked,
    RankingRows,
    keep_needed,
    rows_of_day,
    without_towers,
)
from twinspire_core import storage
from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.contracts import attempts, feature_schema
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.ranker_files import MOST_OF_A_DAY, needs_replay
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_rows, positions
from twinspire_core.sources.candidate_sources import CandidateSources, fits_of
from twinspire_core.storage import parquet_files

MAX_GAP = 1
"""Missing days between the parent and the day after which the parent's lists still count as fresh."""


def rows_to_fit_on(
    ctx: StageContext, features: Path, day: DayData, lists: DayLists
) -> list[RankingRows]:
    """Rows of the newest days, today's first.

    Args:
      features: local folder of the features attempt.
      day: the queries, and the items that the users took.
      lists: the parent's lists for these queries.
    """
    days = rows_before(ctx, features, lists.sources.tables.half_life)
    # Lists of a parent that is days old are worse than the lists that the trees will order.
    if lists.before.encoded and not comes_after_gap(ctx):
        days.append(rows_of_today(ctx, day, lists))
    return keep_needed(days, ctx.day, sources=ctx.pipeline.sources.use)


def comes_after_gap(ctx: StageContext) -> bool:
    """Whether the parent is too old for its lists to be like those of yesterday's version."""
    if ctx.parent and ctx.mode == "full":
        # Training from scratch misses no day, so `gaps` is empty.
        missing = (ctx.day - ctx.parent.day).days - 1
    else:
        missing = sum((gap.last - gap.first).days + 1 for gap in ctx.gaps)
    return missing > MAX_GAP


def rows_of_today(ctx: StageContext, day: DayData, lists: DayLists) -> RankingRows:
    """Rows of the day's users who were not held out."""
    sets = day.evaluation_sets
    asked = []
    # Without stored users, a server knows only the history in a request.
    if ctx.pipeline.serving.user_store or BY_HISTORY not in sets:
        asked.append(
            Asked(
                evaluation_set=sets[NEXT_DAY],
                usable=_trained_users(sets[NEXT_DAY], ctx.day),
                ready={**lists.costly[NEXT_DAY], TWO_TOWER: lists.before.ranked[NEXT_DAY]},
                vectors=lists.before.vectors(NEXT_DAY),
            )
        )
    if BY_HISTORY in sets:
        asked.append(
            Asked(
                evaluation_set=sets[BY_HISTORY],
                usable=np.arange(len(sets[BY_HISTORY].queries)),
                ready={TWO_TOWER: lists.before.ranked[BY_HISTORY]},
                vectors=lists.before.vectors(BY_HISTORY),
                by_history=True,
            )
        )
    return rows_of_day(ctx.day, ctx.pipeline.sources.use, lists.sources, asked)


def _trained_users(evaluation_set: EvaluationSet, day: date) -> np.ndarray:
    """Queries of users who were not held out, at most `MOST_OF_A_DAY`: [K] int64, ascending."""
    usable = np.flatnonzero(~evaluation_set.queries.column("_holdout").to_numpy())
    if len(usable) > MOST_OF_A_DAY:
        chance = np.random.default_rng(day.toordinal())
        usable = np.sort(chance.choice(usable, MOST_OF_A_DAY, replace=False))
    return usable


def rows_before(ctx: StageContext, features: Path, half_life: str) -> list[RankingRows]:
    """Rows of earlier days: those that the parent kept. If it kept none, or is too old, the missing days
    are replayed.

    Args:
      features: local folder of the features attempt.
      half_life: half-life of the source `popular`.
    """
    stored_rows = candidate_rows.read(ctx.parent.measure) if ctx.parent else []
    if not needs_replay(ctx.day, ctx.parent):
        return stored_rows  # also where the features were made before that parent was there
    kept_days = {rows.day for rows in stored_rows}
    return stored_rows + [r for r in _replayed(ctx, features, half_life) if r.day not in kept_days]


def _replayed(ctx: StageContext, features: Path, half_life: str) -> Iterator[RankingRows]:
    """Rows of each replayed day, oldest first."""
    folder = features / feature_schema.REPLAY
    if not without_towers(ctx.pipeline.sources.use):
        return  # no source can list anything
    days = map(attempts.day_of, storage.list_names(str(folder)))
    tables: Mapping[str, pa.Table] = {}
    items = pa.array([], pa.string())
    for day in sorted(day for day in days if day):
        at = features / feature_schema.replay_folder(day)
        corpus = parquet_files.read_folder(str(at / feature_schema.CORPUS_START))
        now = corpus.column("_item").combine_chunks()
        # Every seventh day has its own tables; the others use the last ones.
        if made := _tables(ctx, at):
            tables, items = made, now
        if not len(now):
            continue  # no item of the catalogue had an event by then
        moved = {name: renumbered(table, items, now) for name, table in tables.items()}
        sources = CandidateSources.of(corpus, moved, half_life)
        users = parquet_files.read_folder(str(at / feature_schema.EVALUATION))
        yield _rows_of_replayed(ctx, day, sources, users)


def _tables(ctx: StageContext, at: Path) -> Mapping[str, pa.Table]:
    folders = {
        name: at / name / feature_schema.AT_START for name in fits_of(ctx.pipeline.sources.use)
    }
    return {
        name: parquet_files.read_folder(str(folder))
        for name, folder in folders.items()
        if folder.exists()
    }


def _rows_of_replayed(
    ctx: StageContext, day: date, sources: CandidateSources, users: pa.Table
) -> RankingRows:
    p = ctx.pipeline
    corpus = sources.tables.corpus
    whole = prepare(users, corpus, exclude_seen=p.serving.exclude_seen)
    asked = []
    # As on a normal day: stored users, and users known by their history alone.
    if p.serving.user_store or not p.history_name:
        asked.append(Asked(evaluation_set=whole, usable=np.arange(len(users))))
    if p.history_name:
        usable, queries = queries_by_history(users, p, most=MOST_OF_A_DAY, seed=day.toordinal())
        history = positions(queries.column(p.history_name), corpus.column("_item"))
        again = ask_by_history(whole, usable, queries, history)
        asked.append(Asked(evaluation_set=again, usable=np.arange(len(queries)), by_history=True))
    return rows_of_day(day, p.sources.use, sources, asked)


def renumbered(table: pa.Table, before: pa.Array, now: pa.Array) -> pa.Table:
    """A source's table for another corpus, without the items that this corpus lacks.

    Args:
      table: has a column `_rows` if it refers to rows of a corpus.
      before: ids of the corpus that it was made for, ascending.
      now: ids of the other corpus, ascending.
    """
    if "_rows" not in table.column_names or before.equals(now):
        return table
    rows = table.column("_rows").combine_chunks()
    position = pc.index_in(before, value_set=now).take(rows.flatten())
    is_in_corpus = position.is_valid()
    owner = list_rows(list_lengths(rows))[is_in_corpus.to_numpy(zero_copy_only=False)]
    lengths = np.bincount(owner, minlength=len(table))
    for number, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            values = position
            if field.name != "_rows":
                values = table.column(number).combine_chunks().flatten()
            lists = arrow_lists(lengths, values.filter(is_in_corpus)).cast(field.type)
            table = table.set_column(number, field, lists)
    return table.filter(pa.array(lengths > 0))
