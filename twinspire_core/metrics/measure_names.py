"""What measures are called, in metrics.json and in a pipeline file.

Of all users `recall@50`; of users of a slice `recall@50/users:1-4`; of the true items of a slice
alone `recall@50/items:0`. twinspire_core/metrics/ranking.py and twinspire_core/metrics/diversity.py
say what they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

USERS, ITEMS = "users", "items"
OF_MIX = "mix/"
"""What the name of a limit starts with that holds for the mix alone."""


def names(bounds: Sequence[int]) -> list[str]:
    """Names of the slices, the one of the fewest events first: `0`, `1-4`, `5-19`, `20+` of the
    bounds 1, 5, 20.

    Args:
      bounds: where the next slice begins, ascending from 1 or more.

    Example:
      >>> names([1, 5, 20])
      ['0', '1-4', '5-19', '20+']
    """
    lows = [0, *bounds]
    inner = zip(lows, bounds, strict=False)
    return [
        *(str(low) if low == high - 1 else f"{low}-{high - 1}" for low, high in inner),
        f"{lows[-1]}+",
    ]


def key(measure: str, side: str, name: str) -> str:
    """How the measure of a slice is called: `recall@50/users:0`."""
    return f"{measure}/{side}:{name}"


def headline(ks: Sequence[int]) -> list[str]:
    """Measures of all users of which more is better."""
    return [
        *(f"{name}@{k}" for k in ks for name in ("recall", "ndcg", "hit_rate", "coverage")),
        "mrr",
    ]


def with_floors(ks: Sequence[int], bounds: Sequence[int]) -> list[str]:
    """Measures of which more is better, those of slices among them."""
    ranking = [*(f"{name}@{k}" for k in ks for name in ("recall", "ndcg", "hit_rate")), "mrr"]
    of_users = [key(measure, USERS, name) for name in _sliced(bounds) for measure in ranking]
    of_items = [key(f"recall@{k}", ITEMS, name) for name in _sliced(bounds) for k in ks]
    return [*headline(ks), *of_users, *of_items]


def with_ceilings(ks: Sequence[int], bounds: Sequence[int]) -> list[str]:
    """Measures of which less is better, those of slices among them."""
    whole = [f"{name}@{k}" for k in ks for name in ("gini", "overlap", "popular_share")]
    return [
        *whole,
        *(key(f"popular_share@{k}", USERS, name) for name in _sliced(bounds) for k in ks),
    ]


def _sliced(bounds: Sequence[int]) -> list[str]:
    return names(bounds) if bounds else []


def part(measures: Mapping[str, Any] | None, name: str) -> tuple[Mapping[str, Any], str]:
    """Where a measure stands.

    Args:
      measures: as model/evaluation/evaluate.py says, or None.
      name: `recall@50`, or of a slice.

    Returns: the measures of all, or of the slice, with their number of `users`; empty if there are
    none. And what the measure is called among them.
    """
    measure, _, where = name.partition("/")
    if not where:
        return measures or {}, measure
    side, _, slice_name = where.partition(":")
    return ((measures or {}).get("slices") or {}).get(side, {}).get(slice_name) or {}, measure
