"""Scores recommendations against what was really taken: those of a version, or a file made by
anything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluate import Measures, evaluate_ranked
from model.evaluation.evaluation_set import prepare
from model.evaluation.list_files import (
    ITEM_COLUMNS,
    TRUTH_COLUMNS,
    Lists,
    as_text,
    distinct,
    read_keys,
    read_lists,
    read_table,
)
from model.evaluation.ranked_lists import FilteredCorpus, rank, rank_baselines
from model.fusion_fitting.source_lists import rank_co_occurrence, rank_fusion, rank_near
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import query_columns
from twinspire_core.errors import BadData
from twinspire_core.fusion.fuse import DEPTH, Fusion
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.diversity import exposure
from twinspire_core.metrics.ranking import by_user, means
from twinspire_core.search.ragged import list_lengths, list_rows, positions
from twinspire_core.sources.candidate_sources import (
    CO_OCCURRENCE,
    MIX,
    TWO_TOWER,
    CandidateSources,
    most_frequent_first,
)

Embed = Callable[[pa.Table], np.ndarray]
"""Raw query features to vectors, [N, D] float32: `twinspire_core.contracts.model_bundle.Tower`."""


def score_file(
    recs: str | pa.Table,
    truth: str | pa.Table,
    ks: Sequence[int],
    corpus: str | pa.Table | None = None,
    *,
    resamples: int = 0,
) -> Measures:
    """Scores a file of recommendations; model/evaluation/list_files.py says what such files look
    like.

    Every query with a true item counts, one without recommendations as a miss; others are ignored.

    Args:
      recs: recommended items per query, best first: a file or a table.
      truth: true items per query; repeated ones count once.
      ks: list lengths.
      corpus: the catalogue, with a column `_item` or `item`. True items outside it are misses in
        any case, as nothing can find them; items recommended from outside are too. Without it there
        is no coverage and no Gini coefficient.
      resamples: bootstrap resamples behind `intervals`; 0 for none. Several queries of one user
        count as of several.

    Returns: means by measure, with `users` (queries with a true item) and `answered` (those that
    have a list).
    """
    wanted = distinct(_lists(truth, TRUTH_COLUMNS))
    given = _lists(recs, ITEM_COLUMNS)
    items = pc.unique(pa.chunked_array([given.items.flatten(), wanted.items.flatten()]))
    if corpus is not None:
        items = pc.unique(_lists_of_items(corpus))
    place = _places(wanted.key, given.key, "the recommendations")
    answered = place.is_valid().to_numpy(zero_copy_only=False)
    ranked = np.full((len(wanted.key), max(ks)), -1, np.int64)
    ranked[answered] = positions(given.items.take(place.drop_null()), items).padded(max(ks))
    values = by_user(ranked, positions(wanted.items, items), ks)
    measured: Measures = {
        "users": len(wanted.key),
        "answered": int(answered.sum()),
        **means(values),
        **exposure(ranked[answered], ks, len(items) if corpus is not None else None),
    }
    if resamples:
        resampled = resampled_means(values, np.arange(len(wanted.key)), resamples)
        measured["intervals"] = {name: list(span) for name, span in intervals(resampled).items()}
    return measured


def score_version(
    embed: Embed,
    items: pa.Table,
    vectors: pa.Table,
    queries: pa.Table,
    truth: pa.Table,
    pipeline: Pipeline,
    ks: Sequence[int],
    *,
    together: pa.Table | None = None,
    mix: Fusion | None = None,
    passing: np.ndarray | None = None,
) -> dict[str, Measures]:
    """Scores a version's two towers by exact search, beside the lists that need no model, and the
    mix of all.

    Args:
      embed: the version's query tower.
      items: its corpus: `_item`, `_popular`, `_lately`.
      vectors: `_item` and `vector`, in any order.
      queries: one row per query: user and raw features. Items seen are those of a column `_past` or
        `seen`, else the history.
      truth: true items per query. A query without a row in `queries` is asked with all features
        missing.
      pipeline: declares the features.
      ks: list lengths.
      together: its table of co-occurrence, if it has one.
      mix: its mix, if it has one.
      passing: [C] bool, what may be listed; all items by default. Of the truth, only what passes
        counts.

    Returns: measures by list (`two_tower`, `mix`, `most_popular`, …), each with the number of
    queries `answered`. All queries count; slices tell users apart by the number of items seen, as
    far as the queries tell it. With `passing`, measures are of the part of the catalogue that
    passes, and queries with no true item in it are `left_out`.

    Raises:
      BadData: files do not fit each other, or no true item passes.
    """
    given = distinct(
        read_lists(truth, TRUTH_COLUMNS, place="the truth", user=pipeline.columns.user)
    )
    part = FilteredCorpus(np.ones(len(items), bool) if passing is None else passing)
    wanted = given if passing is None else _among(given, items.column("_item").take(part.rows))
    asked, found = _aligned(queries, wanted, pipeline)
    split = prepare(
        pa.table({"_user": wanted.key, "_truth": wanted.items, "_past": _seen(asked, pipeline)}),
        items,
        bounds=pipeline.evaluation.slices,
        resamples=pipeline.evaluation.resamples,
    )
    if asked.column("_past").null_count == len(asked):  # histories are oldest first
        split = replace(split, past=most_frequent_first(split.past))
    own, nominators, k = (
        part.split(split),
        CandidateSources.of(items, together).among(part.passing),
        max(ks),
    )
    vectors_of = _matrix(vectors, items.column("_item"))[part.rows]
    ranked = {TWO_TOWER: rank(own, embed(asked), vectors_of, max(k, DEPTH))}
    near = rank_near(nominators, split, max(k, DEPTH)) if mix or together is not None else None
    if mix:
        ranked[MIX] = part.inside(
            rank_fusion(mix, nominators, split, part.outside(ranked[TWO_TOWER]), k, near=near)
        )
    ranked |= rank_baselines(own, k)
    if near and together is not None:
        ranked[CO_OCCURRENCE] = part.inside(rank_co_occurrence(nominators, split, k, near))
    told = {"answered": found} | (
        {} if passing is None else {"left_out": len(given.key) - len(wanted.key)}
    )
    return {
        name: {**told, **evaluate_ranked(own, lists.first(k), ks)} for name, lists in ranked.items()
    }


def conform(table: pa.Table, pipeline: Pipeline) -> pa.Table:
    """Brings raw query features to their declared types; columns that are not there are missing
    values.

    Raises:
      BadData: a column cannot be read as its type.
    """
    columns = {}
    for field in query_columns(pipeline):
        given = (
            table.column(field.name)
            if field.name in table.column_names
            else pa.nulls(table.num_rows)
        )
        try:
            columns[field.name] = given.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise BadData(
                f"Feature {field.name} is {field.type}; the queries hold {given.type}: {e}."
            ) from e
    return pa.table(columns)


def _among(lists: Lists, items: pa.ChunkedArray) -> Lists:
    """What the lists hold of these items, without lists that are empty then."""
    values = lists.items.flatten()
    rows = list_rows(list_lengths(lists.items))
    kept = pc.is_in(values, value_set=items.combine_chunks())
    table = pa.table(
        {
            "user": lists.key.take(pa.array(rows)),
            "item": values,
        }
    )
    if not pc.any(kept).as_py():
        raise BadData(
            f"Lists are measured by the true items that pass the filter; none of {len(values):,}"
            " does. Take a wider filter, or a truth of users who took such items."
        )
    return read_lists(table.filter(kept), ITEM_COLUMNS, place="the truth")


def _lists(source: str | pa.Table, columns: Sequence[str]) -> Lists:
    table = read_table(source) if isinstance(source, str) else source
    return read_lists(table, columns, place=source if isinstance(source, str) else "the table")


def _lists_of_items(corpus: str | pa.Table) -> pa.Array:
    table = read_table(corpus) if isinstance(corpus, str) else corpus
    name = next(
        (name for name in ("_item", "item", "item_id") if name in table.column_names),
        table.column_names[0],
    )
    return as_text(table.column(name).combine_chunks(), "the corpus")


def _aligned(queries: pa.Table, wanted: Lists, pipeline: Pipeline) -> tuple[pa.Table, int]:
    """The queries in the order of the truth, typed; and how many of them were there."""
    queries = _named_history(queries, pipeline)
    place = _places(
        wanted.key,
        read_keys(queries, place="the queries", user=pipeline.columns.user),
        "the queries",
    )
    asked = conform(queries, pipeline).append_column("_past", _past_column(queries)).take(place)
    return _with_user_id(asked, wanted.key, pipeline), len(place) - place.null_count


def _places(wanted: pa.Array, there: pa.Array, name: str) -> pa.Array:
    """Where each wanted query stands, null where it does not."""
    place = pc.index_in(wanted, value_set=there)
    if len(wanted) and place.null_count == len(wanted):
        raise BadData(
            f"{name} and the truth are joined by user; none is in both:"
            f" {wanted.slice(0, 3).to_pylist()} in the truth, {there.slice(0, 3).to_pylist()} in"
            f" {name}. They may be of another split, or the ids written differently."
        )
    return place


def _named_history(queries: pa.Table, pipeline: Pipeline) -> pa.Table:
    """Requests may call the history `history`, whatever its feature is called
    (docs/requests.md).
    """
    own = pipeline.history_name
    if own is None or own in queries.column_names:
        return queries
    return queries.rename_columns(
        [own if name == "history" else name for name in queries.column_names]
    )


def _past_column(queries: pa.Table) -> Any:
    name = next((name for name in ("_past", "seen") if name in queries.column_names), None)
    kind = pa.list_(pa.string())
    return queries.column(name).cast(kind) if name else pa.nulls(queries.num_rows, kind)


def _with_user_id(asked: pa.Table, key: pa.Array, pipeline: Pipeline) -> pa.Table:
    """Fills the user's own id, if it is a feature, from the key where the queries leave it out."""
    name = pipeline.user_id
    if name is None or asked.column(name).null_count < asked.num_rows:
        return asked
    return asked.set_column(asked.column_names.index(name), name, key)


def _seen(asked: pa.Table, pipeline: Pipeline) -> pa.ChunkedArray:
    history = pipeline.history_name
    past = asked.column("_past")
    return asked.column(history) if history and past.null_count == len(past) else past


def _matrix(vectors: pa.Table, items: pa.ChunkedArray) -> np.ndarray:
    """[C, D] float32 in the order of `items`."""
    place = pc.index_in(items, value_set=vectors.column("_item").combine_chunks())
    if place.null_count:
        raise BadData(
            f"Every item of a version has a vector; {place.null_count} of {len(items)} have none."
        )
    column = vectors.column("vector").combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    rows: np.ndarray = values.reshape(len(column), -1)[place.to_numpy()]
    return rows
