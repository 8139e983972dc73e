"""Measures the lists of a version, or a file of recommendations of any system, on items that users really
took.

Without TensorFlow, so that a file is measured in a moment: the query tower is any function that encodes
queries.

C items of a corpus, of which P pass a filter; N queries, U of them with a true item; D dimensions.
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
from twinspire_core.search.ragged import Ragged, list_lengths, list_rows, positions
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


class FilteredCorpus:
    """Converts lists and queries between the whole corpus and the part that passes a filter.

    Attributes:
      passing: [C] bool, whether an item passes.
      rows: [P] int64, positions in the corpus of the items that pass.
    """

    def __init__(self, passing: np.ndarray) -> None:
        self.passing = passing
        self.rows = np.flatnonzero(passing)
        # One entry more than items: the position -1 (no item) reads this last entry and stays -1.
        self._place = np.full(len(passing) + 1, -1, np.int64)
        self._place[self.rows] = np.arange(len(self.rows))

    def narrow(self, evaluation_set: EvaluationSet) -> EvaluationSet:
        """The same queries for the part. Users are still sliced by their events in the whole corpus."""
        counts = evaluation_set.personal
        return replace(
            evaluation_set,
            truth=self._narrow_lists(evaluation_set.truth),
            past=self._narrow_lists(evaluation_set.past),
            personal=replace(counts, item=self._place[counts.item]) if counts else None,
            popular=self._narrow_order(evaluation_set.popular),
            lately=self._narrow_order(evaluation_set.lately),
            hot=None if evaluation_set.hot is None else evaluation_set.hot[self.rows],
            events=evaluation_set.events[self.rows],
        )

    def to_part(self, ranked: RankedLists) -> RankedLists:
        """Lists in positions of the corpus to positions of the part."""
        return _renumbered(ranked, self._place)

    def to_corpus(self, ranked: RankedLists) -> RankedLists:
        """Lists in positions of the part to positions of the corpus."""
        return _renumbered(ranked, np.append(self.rows, -1))

    def _narrow_lists(self, lists: Ragged) -> Ragged:
        return lists._replace(values=self._place[lists.values])

    def _narrow_order(self, order: np.ndarray) -> np.ndarray:
        passing: np.ndarray = self._place[order[self.passing[order]]]
        return passing


def _renumbered(ranked: RankedLists, numbers: np.ndarray) -> RankedLists:
    """The same items by other numbers. The last of `numbers` is for -1."""
    excluded = None if ranked.excluded is None else numbers[ranked.excluded]
    return ranked._replace(kept=numbers[ranked.kept], excluded=excluded)


def score_version(
    version: VersionParts,
    queries: pa.Table,
    truth: pa.Table,
    pipeline: Pipeline,
    ks: Sequence[int],
    *,
    passing: np.ndarray | None = None,
) -> dict[str, MeasuresDict]:
    """Measures the lists of a version: of its two towers (by exact search), its ranker, its fixed order, and
    each source that needs no model.

    Args:
      queries: one row per query: user and raw features. Seen items are those of a column `_past` or
        `seen`, else the history.
      truth: true items per query. A query without a row in `queries` has missing values for all
        features.
      ks: the lengths of lists to measure.
      passing: [C] bool, items that may be listed; all items by default. Other true items do not count.

    Returns: measures by list (`two_tower`, `ranked`, `fixed_order`, …), each with the number of
    queries `answered`. All queries count, and users are sliced by their number of seen items. With
    `passing`, measures are for the passing part of the corpus, and queries without a true item in it are
    `left_out`.

    Raises:
      BadData: the files do not match, or no true item passes.
    """
    items = version.tables.corpus
    true_lists = distinct(
        read_lists(truth, TRUTH_COLUMNS, source="the truth", user=pipeline.columns.user)
    )
    part = FilteredCorpus(np.ones(len(items), bool) if passing is None else passing)
    wanted = true_lists
    if passing is not None:
        wanted = _with_items(true_lists, items.column("_item").take(part.rows))
    aligned = align_queries(queries, wanted.key, pipeline)
    evaluation_set = _evaluation_set(aligned, wanted, items, pipeline)
    vectors = Vectors(
        queries=version.embed(aligned.features),
        items=_matrix(version.vectors, items.column("_item")),
    )
    ranked = _rank(version, evaluation_set, part, vectors, max(ks))
    counts = {"answered": aligned.answered}
    if passing is not None:
        counts["left_out"] = len(true_lists.key) - len(wanted.key)
    narrowed = part.narrow(evaluation_set)
    return {
        name: {**counts, **evaluate_ranked(narrowed, lists.first(max(ks)), ks)}
        for name, lists in ranked.items()
    }


def _rank(
    version: VersionParts,
    evaluation_set: EvaluationSet,
    part: FilteredCorpus,
    vectors: Vectors,
    k: int,
) -> dict[str, RankedLists]:
    """All lists of a version, by name, in positions of the part.

    Args:
      evaluation_set: the queries, in positions of the whole corpus, because seen items have neighbours
        even if they do not pass themselves.
      part: the items that may be listed.
      vectors: [U, D] of the queries and [C, D] of the whole corpus, float32.
      k: length of the lists. Lists of the two-tower are longer if other lists need it.
    """
    tables = version.tables
    sources = CandidateSources.of(tables.corpus, tables.others, tables.half_life)
    sources = sources.among(part.passing)
    depth = max(k, DEPTH)
    narrowed = part.narrow(evaluation_set)
    two_tower = rank(narrowed, vectors.queries, vectors.items[part.rows], depth)
    ready = costly_lists(sources, evaluation_set, depth)
    with_towers = {**ready, TWO_TOWER: part.to_corpus(two_tower)}
    ranked = {TWO_TOWER: two_tower}
    if version.order:
        in_order = rank_fixed(version.order, sources, evaluation_set, with_towers, k)
        ranked[FIXED_ORDER] = part.to_part(in_order)
    ranked |= rank_baselines(narrowed, k)
    alone = rank_each(sources, evaluation_set, ready, k)
    ranked |= {name: part.to_part(lists) for name, lists in alone.items()}
    if version.ranker:
        by_ranker = rank_queries(version.ranker, sources, evaluation_set, vectors, with_towers, k)
        ranked[RANKED] = part.to_part(by_ranker)
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


def _with_items(lists: Lists, items: pa.ChunkedArray) -> Lists:
    """The lists with only these items. Lists that become empty are left out.

    Raises:
      BadData: none of the items is in any list.
    """
    values = lists.items.flatten()
    is_kept = pc.is_in(values, value_set=items.combine_chunks())
    if not pc.any(is_kept).as_py():
        raise BadData(
            f"Lists are measured only on true items that pass the filter; none of the"
            f" {len(values):,} does. Give a wider filter, or a truth with users who took such items."
        )
    user = lists.key.take(pa.array(list_rows(list_lengths(lists.items))))
    table = pa.table({"user": user, "item": values})
    return read_lists(table.filter(is_kept), ITEM_COLUMNS, source="the truth")


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
    rows: np.ndarray = values[position.to_numpy()]
    return rows


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
