"""What measures are called, in metrics.json and in a pipeline file; list_metrics.py says what they are.

Of all users `recall@50`; of users of a slice `recall@50/users:1-4`; of the true items of a slice
alone `recall@50/items:0`.
"""

from collections.abc import Sequence
from itertools import pairwise

MEASURES = {
    "recall": "twinspire_core.metrics.list_metrics:recall",
    "ndcg": "twinspire_core.metrics.list_metrics:ndcg",
    "hit_rate": "twinspire_core.metrics.list_metrics:hit_rate",
}
"""Measures of lists by the true items among their first k, of which more is better: their functions by name.
A new measure is a function, with the arguments of `list_metrics.recall`, and a line here.
"""
USERS = "users"
ITEMS = "items"
"""Sides that have slices."""
OUTSIDE = "outside"
"""The slice of true items that the corpus does not have."""
KEPT = "kept"
"""Lists in which items that the user had before may appear again."""
EXCLUDED = "excluded"
"""Lists without them."""
OF_SERVED = "served/"
"""Begins the name of a limit that holds only for the lists that are served."""
SLICES = (1, 5, 20)
"""Where slices begin: newcomers have no event, and beyond 20 further events change little."""


def names(bounds: Sequence[int]) -> list[str]:
    """Names of the slices, the one of the fewest events first.

    Args:
      bounds: where the next slice begins, ascending from 1 or more.

    Example:
      >>> names([1, 5, 20])
      ['0', '1-4', '5-19', '20+']
    """
    lows = [0, *bounds]
    ranges = [
        f"{low}-{above - 1}" if above > low + 1 else str(low) for low, above in pairwise(lows)
    ]
    return [*ranges, f"{lows[-1]}+"]


def key(measure: str, side: str, name: str) -> str:
    """The name of a slice's measure: `recall@50/users:0`."""
    return f"{measure}/{side}:{name}"


def headline(ks: Sequence[int]) -> list[str]:
    """Measures of all users of which more is better."""
    at_k = [f"{name}@{k}" for k in ks for name in (*MEASURES, "coverage")]
    return [*at_k, "mrr"]


def with_floors(ks: Sequence[int], bounds: Sequence[int]) -> list[str]:
    """Measures of which more is better, those of slices among them."""
    at_k = [f"{name}@{k}" for k in ks for name in MEASURES]
    slices = names(bounds) if bounds else []
    of_users = [key(measure, USERS, s) for s in slices for measure in [*at_k, "mrr"]]
    of_items = [key(f"recall@{k}", ITEMS, s) for s in slices for k in ks]
    return [*headline(ks), *of_users, *of_items]


def with_ceilings(ks: Sequence[int], bounds: Sequence[int]) -> list[str]:
    """Measures of which less is better, those of slices among them."""
    of_all = [f"{name}@{k}" for k in ks for name in ("gini", "overlap", "popular_share")]
    slices = names(bounds) if bounds else []
    of_users = [key(f"popular_share@{k}", USERS, s) for s in slices for k in ks]
    return [*of_all, *of_users]


def split_name(name: str) -> tuple[str, str, str]:
    """The measure in a name, the side and the slice; both empty where it is of all users.

    Example:
      >>> split_name("recall@50/users:1-4")
      ('recall@50', 'users', '1-4')
      >>> split_name("recall@50")
      ('recall@50', '', '')
    """
    measure, _, where = name.partition("/")
    side, _, slice_name = where.partition(":")
    return measure, side, slice_name
