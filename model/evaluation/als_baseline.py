"""Matrix factorisation as a baseline: implicit's alternating least squares, fitted on what users
had before the day.

Source: Hu, Koren and Volinsky, *Collaborative Filtering for Implicit Feedback Datasets*, ICDM 2008.
An optional extra.
"""

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, rank
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import positions
from twinspire_core.sources.baselines import same_for_all

ALS = "als"


def check() -> None:
    """Raises UsageError if implicit is not installed."""
    if find_spec("implicit") is None:
        raise UsageError(
            "evaluation.als measures matrix factorisation by implicit, which is not installed here:"
            " pip install 'twinspire[als]', or set evaluation.als = false."
        )


def rank_als(
    pasts: pa.Table,
    split: EvaluationSet,
    users: pa.ChunkedArray,
    items: pa.ChunkedArray,
    k: int,
    factors: int,
) -> RankedLists:
    """The lists of a factorisation of users by items: confidence by number of events, all else as
    implicit has it.

    Args:
      pasts: rows of `pasts/`, one per user.
      split: the queries.
      users: [U] who asks each of them. Those without a row in `pasts` get the most popular items.
      items: [C] the corpus.
      k: length of the lists.
      factors: width of the factors.
    """
    known = pc.unique(pasts.column("_past").combine_chunks().flatten())
    taken = positions(pasts.column("_past"), known)
    counts = pasts.column("_past_counts").combine_chunks().flatten().to_numpy()
    user_factors, item_factors = _fit(
        taken.row, taken.values, counts, (pasts.num_rows, len(known)), factors
    )
    who, what = (
        pc.index_in(*pair)
        for pair in ((users, pasts.column("_user").combine_chunks()), (items, known))
    )
    kept, excluded = rank(split, _rows(user_factors, who), _rows(item_factors, what), k)
    if excluded is not None and who.null_count:
        strangers = who.is_null().to_numpy()
        kept[strangers] = same_for_all(split.popular, split.truth.rows, k)[strangers]
        excluded[strangers] = same_for_all(split.popular, split.truth.rows, k, exclude=split.past)[
            strangers
        ]
    return RankedLists(kept, excluded)


def _fit(
    row: np.ndarray, column: np.ndarray, counts: np.ndarray, shape: tuple[int, int], factors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and of items, [N, factors] float32 each."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # it has threads of its own
        model = AlternatingLeastSquares(factors=factors, random_state=0)
        model.fit(csr_matrix((counts, (row, column)), shape=shape), show_progress=False)
    return model.user_factors, model.item_factors


def _rows(factors: np.ndarray, place: pa.ChunkedArray) -> np.ndarray:
    """Rows of `factors`, zero where `place` is null."""
    known = place.is_valid().to_numpy()
    rows = factors[place.fill_null(0).to_numpy()]
    return np.where(known[:, None], rows, np.float32(0))
