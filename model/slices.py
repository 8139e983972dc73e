"""Users and items told apart by the number of their earlier events: newcomers, light, heavy.

Bounds 1, 5, 20 make the slices `0`, `1-4`, `5-19`, `20+`. A measure of a slice is named `recall@50/users:1-4`, or
`recall@50/items:0`: of the true items of that slice alone.
"""

from collections.abc import Sequence

import numpy as np

USERS, ITEMS = "users", "items"


def names(bounds: Sequence[int]) -> list[str]:
    """Names of the slices, the one of the fewest events first.

    Args:
      bounds: where the next slice begins, ascending from 1 or more.
    """
    lows = [0, *bounds]
    inner = zip(lows, bounds, strict=False)
    return [*(str(low) if low == high - 1 else f"{low}-{high - 1}" for low, high in inner), f"{lows[-1]}+"]


def slice_of(events: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """[N] int64: the number of the slice, in the order of `names`, that each number of events falls into."""
    return np.searchsorted(np.asarray(bounds, np.int64), events, side="right")


def key(measure: str, side: str, name: str) -> str:
    """How the measure of a slice is called: `recall@50/users:0`."""
    return f"{measure}/{side}:{name}"
