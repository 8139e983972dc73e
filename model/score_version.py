"""Measures the lists of a version, or a file of recommendations of any system, on items that users really
took.

Without TensorFlow, so that a file is measured in a moment: the query tower is any function that encodes
queries.

C items of a corpus; N queries, U of them with a true item; D dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluate import MeasuresDict, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_whole
from model.evaluation.list_files import (
    ITEM_COLUMNS,
    TRUTH_COLUMNS,
    AlignedQueries,
    Lists,
    align_queries,
    as_text,
    distinct,
    places_of,
    read_lists,
    read_table,
)
from model.evaluation.ranked_lists import (
    RankedLists,
    costly_lists,
    rank,
    rank_baselines,
    rank_each,
    rank_fixed,
    rank_queries,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.errors import BadData
from twinspire_core.fusion.rank_fusion import DEPTH, FixedOrder
from twinspire_core.metrics.intervals import intervals, resampled_means
from twinspire_core.metrics.list_metrics import by_user, exposure, means
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.search.ragged import positions
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.popular_and_history import most_frequent_first
from twinspire_core.sources.source import SourceTables
from twinspire_core.sources.user_histories import PersonalCounts

Embed = Callable[[pa.Table], np.ndarray]
"""Raw query features to vectors, [N, D] float32: `twinspire_core.contracts.model_bundle.Tower`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionParts:
    """The parts of a version that make its lists.

    Attributes:
      embed: its query tower.
      vectors: vectors of its items, `_item` and `vector`, [C, D] float32, in any order.
      tables: its items (`_item`, `_popular`, `_lately`), and the tables of its sources.
      order: its fixed order; None without one.
      ranker: its ranker; None without one.
    """

    embed: Embed
    vectors: pa.Table
    tables: SourceTables
    order: FixedOrder | None = None
    ranker: Ranker | None = None


def score_version(
    version: VersionParts,
    queries: pa.Table,
    truth: pa.Table,
    pipeline: Pipeline,
    ks: Sequence[int],
) -> dict[str, MeasuresDict]:
    """Measures the lists of a version: of its two towers (by exact search), its ranker, its fixed order, and
    each source that needs no model.

    Args:
      queries: one row per query: user and raw features. Seen items are those of a column `_past` or
        `seen`, else the history.
      truth: true items per query. A query without a row in `queries` has missing values for all
        features.
      ks: the lengths of lists to measure.

    Returns: measures by list (`two_tower`, `ranked`, `fixed_order`, …), each with the number of
    queries `answered`. All queries count, and users are sliced by their number of seen items.

    Raises:
      BadData: the files do not match.
    """
    items = version.tables.corpus
    wanted = distinct(
        read_lists(truth, TRUTH_COLUMNS, source="the truth", user=pipeline.columns.user)
    )
    aligned = align_queries(queries, wanted.key, pipeline)
    evaluation_set = _evaluation_set(aligned, wanted, items, pipeline)
    vectors = Vectors(
        queries=version.embed(aligned.features),
        items=_matrix(version.vectors, items.column("_item")),
    )
    return {
        name: {
            "answered": aligned.answered,
            **evaluate_ranked(evaluation_set, lists.first(max(ks)), ks),
        }
        for name, lists in _rank(version, evaluation_set, vectors, max(ks)).items()
    }


def _rank(
    version: VersionParts, evaluation_set: EvaluationSet, vectors: Vectors, k: int
) -> dict[str, RankedLists]:
    """All lists of a version, by name.

    Args:
      vectors: [U, D] of the queries and [C, D] of the corpus, float32.
      k: length of the lists. Lists of the two-tower are longer if other lists need it.
    """
    tables = version.tables
    sources = CandidateSources.of(tables.corpus, tables.others, tables.half_life)
    depth = max(k, DEPTH)
    two_tower = rank(evaluation_set, vectors.queries, vectors.items, depth)
    ready = costly_lists(sources, evaluation_set, depth)
    with_towers = {**ready, TWO_TOWER: two_tower}
    ranked = {TWO_TOWER: two_tower}
    if version.order:
        ranked[FIXED_ORDER] = rank_fixed(version.order, sources, evaluation_set, with_towers, k)
    ranked |= rank_baselines(evaluation_set, k)
    ranked |= rank_each(sources, evaluation_set, ready, k)
    if version.ranker:
        ranked[RANKED] = rank_queries(
            version.ranker, sources, evaluation_set, vectors, with_towers, k
        )
    return ranked


def _evaluation_set(
    aligned: AlignedQueries, truth: Lists, items: pa.Table, pipeline: Pipeline
) -> EvaluationSet:
    columns = {"_user": truth.key, "_truth": truth.items, "_past": aligned.past}
    evaluation_set = prepare_whole(
        pa.table(columns), items, exclude_seen=pipeline.serving.exclude_seen
    )
    if aligned.past_is_history:
        # A server reads the history of an unknown user in the same way: oldest first, without times.
        history = evaluation_set.past
        evaluation_set = replace(
            evaluation_set,
            past=most_frequent_first(history),
            personal=PersonalCounts.of_histories(history),
        )
    return evaluation_set


def _matrix(vectors: pa.Table, items: pa.ChunkedArray) -> np.ndarray:
    """[C, D] float32 in the order of `items`.

    Raises:
      BadData: an item has no vector.
    """
    position = pc.index_in(items, value_set=vectors.column("_item").combine_chunks())
    if position.null_count:
        raise BadData(
            f"Every item of a version needs a vector; {position.null_count} of {len(items)} have none."
        )
    column = vectors.column("vector").combine_chunks()
    values = np.asarray(column.flatten(), np.float32).reshape(len(column), -1)
    return values[position.to_numpy()]


def score_file(
    recs: str | pa.Table,
    truth: str | pa.Table,
    ks: Sequence[int],
    corpus: str | pa.Table | None = None,
    *,
    resamples: int = 0,
) -> MeasuresDict:
    """Measures a file of recommendations; model/evaluation/list_files.py describes such files.

    Every query with a true item counts; without recommendations it counts as a miss. Other queries are
    ignored.

    Args:
      recs: recommended items per query, best first: a file or a table.
      truth: true items per query; repeated items count once.
      ks: the lengths of lists to measure.
      corpus: the items that can be recommended, with a column `_item` or `item`. True and recommended
        items outside it are misses. Without a corpus, there is no coverage and no Gini coefficient.
      resamples: bootstrap resamples for `intervals`; 0 for none. Several queries of one user count as
        several users.

    Returns: means by measure, with `users` (queries with a true item) and `answered` (those of them
    that have a list).
    """
    wanted = distinct(_read(truth, TRUTH_COLUMNS))
    given = _read(recs, ITEM_COLUMNS)
    if corpus is None:
        items = pc.unique(pa.chunked_array([given.items.flatten(), wanted.items.flatten()]))
        corpus_size = None  # the union of two files is not a corpus, so a share of it means nothing
    else:
        items = pc.unique(_read_corpus(corpus))
        corpus_size = len(items)
    position = places_of(wanted.key, given.key, "the recommendations")
    is_answered = position.is_valid().to_numpy(zero_copy_only=False)
    # A query without recommendations keeps an empty list, so that it counts as a miss.
    ranked = np.full((len(wanted.key), max(ks)), -1, np.int64)
    answers = given.items.take(position.drop_null())
    ranked[is_answered] = positions(answers, items).padded(max(ks))
    values = by_user(ranked, positions(wanted.items, items), ks)
    measured: MeasuresDict = {
        "users": len(wanted.key),
        "answered": int(is_answered.sum()),
        **means(values),
        **exposure(ranked[is_answered], ks, corpus_size),
    }
    if resamples:
        resampled = resampled_means(values, np.arange(len(wanted.key)), resamples)
        measured["intervals"] = {name: list(span) for name, span in intervals(resampled).items()}
    return measured


def _read(source: str | pa.Table, columns: Sequence[str]) -> Lists:
    if isinstance(source, str):
        return read_lists(read_table(source), columns, source=source)
    return read_lists(source, columns, source="the table")


def _read_corpus(corpus: str | pa.Table) -> pa.Array:
    """The ids of a corpus: its item column, else its first column."""
    table = read_table(corpus) if isinstance(corpus, str) else corpus
    given = table.column_names
    name = next((name for name in ("_item", "item", "item_id") if name in given), given[0])
    return as_text(table.column(name).combine_chunks(), "the corpus")
