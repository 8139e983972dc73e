"""Scores recommendations against what was really taken: the lists of a version, or a file made by
anything else. Imports no TensorFlow: a file is scored in a moment.

C items of a corpus, D dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.aligned_queries import AlignedQueries, align_queries, places_of
from model.evaluation.evaluate import Measures, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare_as_configured
from model.evaluation.list_files import (
    ITEM_COLUMNS,
    TRUTH_COLUMNS,
    Lists,
    as_text,
    distinct,
    read_lists,
    read_table,
)
from model.evaluation.ranked_lists import (
    MEASURED_ANYWAY,
    FilteredCorpus,
    RankedLists,
    rank,
    rank_baselines,
)
from model.evaluation.source_lists import costly_lists, rank_alone, rank_fusion, retrieve
from model.ranking.ranked_queries import rank_queries
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import MIX, RANKED, TWO_TOWER
from twinspire_core.errors import BadData
from twinspire_core.fusion.fuse import DEPTH, Fusion
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.diversity import exposure
from twinspire_core.metrics.ranking import by_user, means
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.search.ragged import list_lengths, list_rows, positions
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.past import most_frequent_first
from twinspire_core.sources.source import Constants

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
    """Scores a file of recommendations; model/evaluation/list_files.py describes such files.

    Every query with a true item counts, one without recommendations as a miss; others are ignored.

    Args:
      recs: recommended items per query, best first: a file or a table.
      truth: true items per query; repeated ones count once.
      ks: list lengths.
      corpus: the items that can be recommended, with a column `_item` or `item`. True items outside
        it are misses in any case, as nothing can find them; so are recommended items outside it.
        Without a corpus there is no coverage and no Gini coefficient.
      resamples: bootstrap resamples behind `intervals`; 0 for none. Several queries of one user
        count as of several users.

    Returns: means by measure, with `users` (queries with a true item) and `answered` (those of them
    that have a list).
    """
    wanted = distinct(_read(truth, TRUTH_COLUMNS))
    given = _read(recs, ITEM_COLUMNS)
    if corpus is None:
        items = pc.unique(pa.chunked_array([given.items.flatten(), wanted.items.flatten()]))
        corpus_size = None  # the union of two files is no corpus: no share of it means anything
    else:
        items = pc.unique(_read_corpus(corpus))
        corpus_size = len(items)
    place = places_of(wanted.key, given.key, "the recommendations")
    is_answered = place.is_valid().to_numpy(zero_copy_only=False)
    ranked = np.full((len(wanted.key), max(ks)), -1, np.int64)
    answers = given.items.take(place.drop_null())
    ranked[is_answered] = positions(answers, items).padded(max(ks))
    values = by_user(ranked, positions(wanted.items, items), ks)
    measured: Measures = {
        "users": len(wanted.key),
        "answered": int(is_answered.sum()),
        **means(values),
        **exposure(ranked[is_answered], ks, corpus_size),
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
    tables: Mapping[str, pa.Table] | None = None,
    constants: Constants | None = None,
    fusion: Fusion | None = None,
    ranker: Ranker | None = None,
    passing: np.ndarray | None = None,
) -> dict[str, Measures]:
    """Scores the lists of a version: of its two towers, by exact search; of its ranker; of its fusion;
    and of the sources that need no model.

    Args:
      embed: the version's query tower.
      items: its corpus: `_item`, `_popular`, `_lately`.
      vectors: `_item` and `vector`, in any order.
      queries: one row per query: user and raw features. Items seen are those of a column `_past` or
        `seen`, else the history.
      truth: true items per query. A query without a row in `queries` is encoded with all features
        missing.
      pipeline: declares the features.
      ks: list lengths.
      tables: of its sources, as far as it has them (twinspire_core/sources/source.py).
      constants: of its sources, likewise.
      fusion: its fusion, if it has one.
      ranker: its ranker, likewise.
      passing: [C] bool, what may be listed; all items by default. Of the truth, only what passes
        counts.

    Returns: measures by list (`two_tower`, `ranked`, `mix`, `most_popular`, …), each with the number of
    queries `answered`. All queries count; slices tell users apart by the number of items seen, as
    far as the queries say it. With `passing`, measures are of the part of the corpus that passes,
    and queries with no true item in it are `left_out`.

    Raises:
      BadData: files do not fit each other, or no true item passes.
    """
    true_lists = read_lists(truth, TRUTH_COLUMNS, place="the truth", user=pipeline.columns.user)
    true_lists = distinct(true_lists)
    part = FilteredCorpus(np.ones(len(items), bool) if passing is None else passing)
    wanted = true_lists
    if passing is not None:
        wanted = _with_items(true_lists, items.column("_item").take(part.rows))
    aligned = align_queries(queries, wanted.key, pipeline)
    evaluation_set = _evaluation_set(aligned, wanted, items, pipeline)
    narrowed = part.narrow(evaluation_set)
    of_corpus = Vectors(
        queries=embed(aligned.features), items=_matrix(vectors, items.column("_item"))
    )
    depth = max(*ks, DEPTH)
    two_tower = rank(narrowed, of_corpus.queries, of_corpus.items[part.rows], depth)
    sources = CandidateSources.of(items, tables, constants).among(part.passing)
    ranked = {
        TWO_TOWER: two_tower,
        **_rank_sources(evaluation_set, part, sources, fusion, two_tower, max(ks)),
    }
    if ranker:
        known = {
            **costly_lists(sources, evaluation_set, depth),
            TWO_TOWER: part.to_corpus(two_tower),
        }
        by_ranker = rank_queries(ranker, sources, evaluation_set, of_corpus, known, max(ks))
        ranked[RANKED] = part.to_part(by_ranker)
    counts = {"answered": aligned.answered}
    if passing is not None:
        counts["left_out"] = len(true_lists.key) - len(wanted.key)
    return {
        name: {**counts, **evaluate_ranked(narrowed, lists.first(max(ks)), ks)}
        for name, lists in ranked.items()
    }


def _evaluation_set(
    aligned: AlignedQueries, truth: Lists, items: pa.Table, pipeline: Pipeline
) -> EvaluationSet:
    columns = {"_user": truth.key, "_truth": truth.items, "_past": aligned.past}
    evaluation_set = prepare_as_configured(
        pa.table(columns), items, pipeline.evaluation, exclude_seen=pipeline.serving.exclude_seen
    )
    if aligned.past_is_history:
        # A history is oldest first; the source `past` lists the most frequent items first.
        past = most_frequent_first(evaluation_set.past)
        evaluation_set = replace(evaluation_set, past=past)
    return evaluation_set


def _rank_sources(
    evaluation_set: EvaluationSet,
    part: FilteredCorpus,
    sources: CandidateSources,
    fusion: Fusion | None,
    two_tower: RankedLists,
    k: int,
) -> dict[str, RankedLists]:
    """Lists of the fusion and of the sources that need no model, in positions of the part.

    Args:
      evaluation_set: the queries, in positions of the whole corpus: the neighbours of seen items
        count, whether these pass or not.
      part: what may be listed.
      sources: of the corpus, which retrieve nothing outside the part.
      fusion: of the version, if it has one.
      two_tower: its lists, in positions of the part.
      k: length of the lists.
    """
    ranked = {}
    known = costly_lists(sources, evaluation_set, max(k, DEPTH))
    if fusion:
        fused = rank_fusion(
            fusion, sources, evaluation_set, part.to_corpus(two_tower), k, known=known
        )
        ranked[MIX] = part.to_part(fused)
    ranked |= rank_baselines(part.narrow(evaluation_set), k)
    for name in sources.without_model:
        if name not in MEASURED_ANYWAY:
            lists = known.get(name) or retrieve(name, sources, evaluation_set, k)
            ranked[name] = part.to_part(rank_alone(sources, evaluation_set, k, lists))
    return ranked


def _with_items(lists: Lists, items: pa.ChunkedArray) -> Lists:
    """The lists with these items alone, and without those that are empty then.

    Raises:
      BadData: none of the items is in any list.
    """
    values = lists.items.flatten()
    is_kept = pc.is_in(values, value_set=items.combine_chunks())
    if not pc.any(is_kept).as_py():
        raise BadData(
            f"Lists are measured by the true items that pass the filter; none of {len(values):,}"
            " does. Take a wider filter, or a truth of users who took such items."
        )
    row = list_rows(list_lengths(lists.items))
    table = pa.table({"user": lists.key.take(pa.array(row)), "item": values})
    return read_lists(table.filter(is_kept), ITEM_COLUMNS, place="the truth")


def _read(source: str | pa.Table, columns: Sequence[str]) -> Lists:
    if isinstance(source, str):
        return read_lists(read_table(source), columns, place=source)
    return read_lists(source, columns, place="the table")


def _read_corpus(corpus: str | pa.Table) -> pa.Array:
    """The ids of a corpus: its column of items, or else its first column."""
    table = read_table(corpus) if isinstance(corpus, str) else corpus
    names = [name for name in ("_item", "item", "item_id") if name in table.column_names]
    name = names[0] if names else table.column_names[0]
    return as_text(table.column(name).combine_chunks(), "the corpus")


def _matrix(vectors: pa.Table, items: pa.ChunkedArray) -> np.ndarray:
    """[C, D] float32 in the order of `items`.

    Raises:
      BadData: an item has no vector.
    """
    place = pc.index_in(items, value_set=vectors.column("_item").combine_chunks())
    if place.null_count:
        raise BadData(
            f"Every item of a version has a vector; {place.null_count} of {len(items)} have none."
        )
    column = vectors.column("vector").combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    rows: np.ndarray = values.reshape(len(column), -1)[place.to_numpy()]
    return rows
