from datetime import date, timedelta

import numpy as np
import pytest

from index_builder.gate.comparison import pool_days
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences

TODAY = date(2024, 5, 20)
MEASURE = "recall@50"


def stored(base, difference):
    one = PairedDifference(
        mean=difference.mean(),
        base=base.mean(),
        deviation=difference.std(ddof=1),
        differ=np.count_nonzero(difference),
    )
    return PairedDifferences(users=len(base), by_measure={MEASURE: one})


def days_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    heap = {}
    for back, size in enumerate(sizes):
        base = rng.random(size)
        heap[str(TODAY - timedelta(days=back))] = (base, rng.normal(-0.02, 0.2, size))
    return heap


@pytest.mark.parametrize("seed", range(3))
def test_days_together_are_as_all_their_users_in_one_heap(seed):
    heap = days_of([8, 12, 30, 2, 9], seed)
    found = pool_days(
        {name: stored(*one) for name, one in heap.items()}, TODAY, MEASURE, enough=None
    )
    base, difference = (np.concatenate(parts) for parts in zip(*heap.values(), strict=True))
    compared = found.compared
    assert (found.days, compared.users, compared.differ) == (5, 61, np.count_nonzero(difference))
    assert compared.change == pytest.approx(difference.mean() / base.mean())
    error = difference.std(ddof=1) / 61**0.5
    assert compared.low == pytest.approx((difference.mean() - 1.96 * error) / base.mean())
    assert compared.high == pytest.approx((difference.mean() + 1.96 * error) / base.mean())
