"""Rows of days that the features attempt of a first day, or of one after a gap, replays: those that a chain
of versions would have kept if it had run then. No towers score them.

Their candidates, features and answers are those of the start of each day. The tables of sources are up
to seven days old, as they are in a version that is served while the next days fail.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_data import read_table
from model.evaluation.evaluation_set import prepare
from model.evaluation.history_queries import ask_by_history, queries_by_history
from model.ranking import ranking_rows
from model.ranking.day_rows import Asked, rows_of_day
from model.ranking.ranking_rows import RankingRows, without_towers
from twinspire_core.contracts import attempts, feature_schema
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.ranking_rows import MOST_OF_A_DAY, needs_replay
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_rows, positions
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import fits_of

Tables = Mapping[str, pa.Table]


def rows_before(ctx: StageContext, features: Path, half_life: str) -> list[RankingRows]:
    """Rows of the days before the day: those that the parent kept, and where these are none, or are too
    old, replayed ones of the days that they lack.

    Args:
      ctx: pipeline, day and parent.
      features: local folder of the features attempt.
      half_life: of the source `popular`.
    """
    kept = ranking_rows.read(ctx.parent.measure) if ctx.parent else []
    if not needs_replay(ctx.day, ctx.parent):
        return kept  # also where the features were made before that parent was there
    known = {rows.day for rows in kept}
    made = _replayed(ctx, features, half_life)
    return [*kept, *(rows for rows in made if rows.day not in known)]


def _replayed(ctx: StageContext, features: Path, half_life: str) -> Iterator[RankingRows]:
    """Rows of each replayed day, oldest first."""
    folder = features / feature_schema.REPLAY
    if not without_towers(ctx.pipeline.sources.use):
        return  # nothing is listed
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    days = [day for name in sorted(names) if (day := attempts.day_of(name))]
    tables: Tables = {}
    items = pa.array([], pa.string())
    for day in days:
        at = features / feature_schema.replay_folder(day)
        corpus = read_table(at / feature_schema.CORPUS_START)
        own = _tables(ctx, at)
        if own:
            tables, items = own, corpus.column("_item").combine_chunks()
        now = corpus.column("_item").combine_chunks()
        moved = {name: renumbered(table, items, now) for name, table in tables.items()}
        sources = CandidateSources.of(corpus, moved, half_life)
        users = read_table(at / feature_schema.EVALUATION)
        yield _rows_of_day(ctx, day, sources, users)


def _tables(ctx: StageContext, at: Path) -> Tables:
    """The tables of sources of a replayed day; none but on each seventh day."""
    folders = {
        name: at / name / feature_schema.AT_START for name in fits_of(ctx.pipeline.sources.use)
    }
    return {name: read_table(folder) for name, folder in folders.items() if folder.exists()}


def _rows_of_day(
    ctx: StageContext, day: date, sources: CandidateSources, users: pa.Table
) -> RankingRows:
    p = ctx.pipeline
    corpus = sources.tables.corpus
    whole = prepare(users, corpus, exclude_seen=p.serving.exclude_seen)
    asked = []
    if p.serving.user_store or not p.history_name:
        every = np.arange(len(users))
        asked.append(Asked(evaluation_set=whole, usable=every, known={}, vectors=None))
    if p.history_name:
        seed = day.toordinal()
        usable, queries = queries_by_history(users, p, most=MOST_OF_A_DAY, seed=seed)
        known = positions(queries.column(p.history_name), corpus.column("_item"))
        again = ask_by_history(whole, usable, queries, known)
        every = np.arange(len(queries))
        asked.append(
            Asked(evaluation_set=again, usable=every, known={}, vectors=None, by_history=True)
        )
    return rows_of_day(day, p.sources.use, sources, asked)


def renumbered(table: pa.Table, before: pa.Array, now: pa.Array) -> pa.Table:
    """A table of a source for another corpus than that of its moment, without the items that this lacks.

    Args:
      table: its `_rows`, if it has such, are rows of a corpus.
      before: ids of that corpus, ascending.
      now: ids of the other one, ascending.
    """
    if "_rows" not in table.column_names or before.equals(now):
        return table
    rows = table.column("_rows").combine_chunks()
    place = pc.index_in(before, value_set=now).take(rows.flatten())
    kept = place.is_valid()
    owner = list_rows(list_lengths(rows))[kept.to_numpy(zero_copy_only=False)]
    lengths = np.bincount(owner, minlength=len(table))
    for number, field in enumerate(table.schema):
        if field.name == "_rows":
            values = place.drop_null()
        elif pa.types.is_list(field.type):
            values = table.column(number).combine_chunks().flatten().filter(kept)
        else:
            continue
        table = table.set_column(number, field, arrow_lists(lengths, values).cast(field.type))
    return table.filter(pa.array(lengths > 0))
