"""Matrix factorisation as a baseline: alternating least squares of the library implicit, fitted on
what users took before the day.

Source: Hu, Koren and Volinsky, *Collaborative Filtering for Implicit Feedback Datasets*, ICDM 2008.
The library is an optional extra.
"""

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, rank
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import positions
from twinspire_core.sources.popularity import same_for_all

ALS = "als"
"""Name of the baseline in metrics.json."""


def check_installed() -> None:
    """Raises UsageError if implicit is not installed."""
    if find_spec("implicit") is None:
        raise UsageError(
            "evaluation.als measures matrix factorisation by implicit, which is not installed here:"
            " pip install 'twinspire[als]', or set evaluation.als = false."
        )


def rank_als(
    interaction_counts: pa.Table,
    evaluation_set: EvaluationSet,
    users: pa.ChunkedArray,
    items: pa.ChunkedArray,
    k: int,
    factors: int,
) -> RankedLists:
    """The lists of a factorisation of users by items: confidence grows with the number of events,
    and all else is implicit's default.

    Args:
      interaction_counts: one row per user: `_user`, `_past` (items) and `_past_counts`.
      evaluation_set: the queries.
      users: [U] the user of each query. Users without interactions get the most popular items.
      items: [C] the corpus.
      k: length of the lists.
      factors: width of the factors.
    """
    past = interaction_counts.column("_past").combine_chunks()
    known_items = pc.unique(past.flatten())
    taken = positions(interaction_counts.column("_past"), known_items)
    counts = interaction_counts.column("_past_counts").combine_chunks().flatten().to_numpy()
    shape = (interaction_counts.num_rows, len(known_items))
    user_factors, item_factors = _fit(taken.row, taken.values, counts, shape, factors)
    known_users = interaction_counts.column("_user").combine_chunks()
    user_place = pc.index_in(users, known_users)
    item_place = pc.index_in(items, known_items)
    ranked = rank(
        evaluation_set, _rows(user_factors, user_place), _rows(item_factors, item_place), k
    )
    kept = ranked.kept
    excluded = ranked.excluded
    # Their factors would be zero, and so would all scores.
    if excluded is not None and user_place.null_count:
        popular = evaluation_set.popular
        queries = evaluation_set.truth.rows
        without_seen = same_for_all(popular, queries, k, exclude=evaluation_set.seen)
        unknown = user_place.is_null().to_numpy()
        kept[unknown] = same_for_all(popular, queries, k)[unknown]
        excluded[unknown] = without_seen[unknown]
    return RankedLists(kept, excluded)


def _fit(
    row: np.ndarray, column: np.ndarray, counts: np.ndarray, shape: tuple[int, int], factors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and of items, [N, factors] float32 each."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    # implicit has threads of its own; BLAS's on top of them make it slower.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=factors, random_state=0)
        model.fit(csr_matrix((counts, (row, column)), shape=shape), show_progress=False)
    return model.user_factors, model.item_factors


def _rows(factors: np.ndarray, place: pa.ChunkedArray) -> np.ndarray:
    """Rows of `factors`, zero where `place` is null."""
    known = place.is_valid().to_numpy()
    rows = factors[place.fill_null(0).to_numpy()]
    return np.where(known[:, np.newaxis], rows, np.float32(0))
