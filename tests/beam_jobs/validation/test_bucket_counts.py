"""Counts in buckets, beside sorted lists of the numbers themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.validation import bucket_counts
from beam_jobs.validation.bucket_counts import BucketCounts

numbers = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=60)
wide_numbers = st.lists(
    st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=30, max_size=300
)


@given(numbers)
def test_few_numbers_are_counted_exactly(some):
    found = BucketCounts.of(some)
    assert (found.total, found.dropped_bits) == (len(some), 0)
    for one in some:
        assert found.share_up_to([one])[0] == pytest.approx(np.mean(np.array(some) <= one))
    if some:
        ranks = [n / len(some) for n in range(1, len(some) + 1)]
        assert found.quantiles(ranks).tolist() == sorted(some)


@given(wide_numbers, st.randoms(use_true_random=False), st.integers(1, 6))
def test_parts_add_up_to_the_same_in_any_order(some, random, parts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_counts, "MOST_BUCKETS", 10)
        whole = BucketCounts.of(some)
        assert len(whole.keys) <= 10 and whole.total == len(some)
        of_parts = [BucketCounts.of(some[i::parts]) for i in range(parts)]
        random.shuffle(of_parts)
        total = sum(of_parts[1:], start=of_parts[0])
    assert total.to_bytes() == whole.to_bytes()
    assert BucketCounts.from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()


@given(wide_numbers)
def test_no_more_bits_are_dropped_than_must_be(some):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_counts, "MOST_BUCKETS", 10)
        found = BucketCounts.of(some)
    if found.dropped_bits:
        finer = BucketCounts.of(some).coarsened(found.dropped_bits - 1)
        assert len(finer.keys) > 10


@given(wide_numbers)
def test_a_bucket_answers_with_its_greatest_number(some):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_counts, "MOST_BUCKETS", 10)
        found = BucketCounts.of(some)
    values = np.array(some, np.float32)
    for answer in found.quantiles([0.1, 0.5, 0.9, 1]):
        assert answer in values
        assert found.share_up_to([answer])[0] == pytest.approx(np.mean(values <= answer))
    assert found.quantiles([1])[0] == values.max()


def test_a_number_that_many_have_is_in_its_bucket_whole():
    """Served with a number just below the greatest of a bucket: all of the bucket is up to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_counts, "MOST_BUCKETS", 2)
        found = BucketCounts.of([1.0] * 8 + [1.0001, -5.0])
    assert found.share_up_to([1.0, 0.0, -6.0]).tolist() == [1.0, 0.1, 0.0]


def test_zeros_are_one_number_and_nothing_has_no_quantiles():
    assert BucketCounts.of([0.0, -0.0]).counts.tolist() == [2]
    assert BucketCounts.of([]).total == 0
    assert BucketCounts.of([7, 7], [2, 3]).counts.tolist() == [5]
