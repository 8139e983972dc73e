"""Users and items told apart by the number of their earlier events: newcomers, light, heavy.

Bounds 1, 5, 20 make the slices `0`, `1-4`, `5-19`, `20+`; twinspire_core/metrics/measure_names.py
names them and their measures.
"""

from collections.abc import Sequence

import numpy as np


def slice_of(events: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """[N] int64: the number of the slice, in the order of `names`, that each number of events falls
    into.
    """
    return np.searchsorted(np.asarray(bounds, np.int64), events, side="right")
