"""How sure a mean over users is: bootstrap intervals.

A resample draws as many users as there are, each with all their queries, with replacement. The
draws depend on the seed and the number of users alone, so that two lists measured on the same
queries are resampled alike: what they have in common cancels in their difference. Source: Efron and
Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np

LEVEL = 0.95
"""Share of resamples that an interval covers, as many left out below it as above."""

_SEED = 20190916
_CHUNK_BYTES = 64 << 20
_KEPT = 16 << 20  # draws, of 2 bytes each


def resampled_means(
    values: Mapping[str, np.ndarray], user: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """The mean of each measure in each resample.

    Args:
      values: [U] float64 by measure, a number per query; nan where the measure does not apply.
      user: [U] int64, numbers from 0 of the users who ask.
      resamples: R.

    Returns: [R] float64 by measure, nan where a resample has no query that the measure applies to.
    """
    users = int(user.max(initial=-1)) + 1
    if not users or not resamples or not values:
        return {name: np.full(resamples, np.nan) for name in values}
    sums, numbers, kind = _per_user(values, user, users)
    means = list[np.ndarray]()
    for drawn in (
        _kept(users, resamples) if users * resamples <= _KEPT else _draws(users, resamples)
    ):
        times = drawn.astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append((times @ sums) / (times @ numbers)[:, kind])
    return dict(zip(values, np.concatenate(means).T, strict=True))


def _draws(users: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each user is drawn, [n, users] uint16, n of the resamples at a time."""
    draw = np.random.default_rng(_SEED)
    chunk = max(1, _CHUNK_BYTES // (8 * users))
    for start in range(0, resamples, chunk):
        n = min(chunk, resamples - start)
        drawn = draw.integers(users, size=(n, users)) + np.arange(n)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=n * users).reshape(n, users).astype(np.uint16)


@lru_cache(maxsize=4)  # the exams of a day, each of which measures many lists
def _kept(users: int, resamples: int) -> tuple[np.ndarray, ...]:
    return tuple(_draws(users, resamples))


def _per_user(
    values: Mapping[str, np.ndarray], user: np.ndarray, users: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Sums over each user's queries, and how many of them a measure applies to.

    Returns: [users, M] of the M measures; [users, N] of the N ways in which measures apply; which
    of them each has.
    """
    sums, numbers, kind = list[np.ndarray](), list[np.ndarray](), list[int]()
    kinds: dict[bytes, int] = {}
    for value in values.values():
        there = np.isfinite(value)
        sums.append(np.bincount(user, np.where(there, value, 0.0), users))
        known = kinds.setdefault(there.tobytes(), len(kinds))
        kind.append(known)
        if known == len(numbers):
            numbers.append(np.bincount(user, there, users))
    return np.stack(sums, 1), np.stack(numbers, 1), kind


def intervals(resampled: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """The range that holds 95% of the resamples of each measure that has one, by name.

    Args:
      resampled: [R] float64 by measure; nan is left out, an infinite one makes the range
        meaningless.
    """
    # Measures that apply to the same resamples, for a quantile of all at once
    alike: dict[bytes, list[str]] = {}
    for name, x in resampled.items():
        alike.setdefault(np.isnan(x).tobytes(), []).append(name)
    found: dict[str, np.ndarray] = {}
    for names in alike.values():
        known = np.stack([resampled[name] for name in names])
        known = known[:, ~np.isnan(known[0])]
        if known.shape[1]:
            with np.errstate(invalid="ignore"):
                spans = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
            found |= zip(names, spans.T, strict=True)
    told = {
        name: found[name].tolist()
        for name in resampled
        if name in found and np.isfinite(found[name]).all()
    }
    return {name: (low, high) for name, (low, high) in told.items()}


def interval(resampled: np.ndarray) -> tuple[float, float] | None:
    """That of one measure, or None if there is none."""
    return intervals({"": resampled}).get("")
