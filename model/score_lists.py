"""Scores a file of recommendations, made by anything, against what was really taken. Imports no
TensorFlow: a file is scored in a moment.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.aligned_queries import places_of
from model.evaluation.evaluate import MeasuresDict
from model.evaluation.list_files import (
    ITEM_COLUMNS,
    TRUTH_COLUMNS,
    Lists,
    as_text,
    distinct,
    read_lists,
    read_table,
)
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.diversity import exposure
from twinspire_core.metrics.ranking import by_user, means
from twinspire_core.search.ragged import positions


def score_file(
    recs: str | pa.Table,
    truth: str | pa.Table,
    ks: Sequence[int],
    corpus: str | pa.Table | None = None,
    *,
    resamples: int = 0,
) -> MeasuresDict:
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
        return read_lists(read_table(source), columns, place=source)
    return read_lists(source, columns, place="the table")


def _read_corpus(corpus: str | pa.Table) -> pa.Array:
    """The ids of a corpus: its column of items, or else its first column."""
    table = read_table(corpus) if isinstance(corpus, str) else corpus
    names = [name for name in ("_item", "item", "item_id") if name in table.column_names]
    name = names[0] if names else table.column_names[0]
    return as_text(table.column(name).combine_chunks(), "the corpus")
