"""Means of what was found over all days, beside their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from twinspire_core.metrics.bootstrap import intervals, resampled_means

RESAMPLES = 1_000


def with_intervals(
    found: Mapping[str, Sequence[np.ndarray]], users: Sequence[np.ndarray]
) -> dict[str, list[float]]:
    """Prints the mean of all queries by each way, with its 95% interval over users.

    Args:
      found: [Q] by day, of each way.
      users: [Q] by day, who asked.

    Returns: mean, lower and upper end by way.
    """
    values = {name: np.concatenate(days).astype(float) for name, days in found.items()}
    numbers = np.unique(np.concatenate(users), return_inverse=True)[1]
    figures = {}
    for name, (low, high) in intervals(resampled_means(values, numbers, RESAMPLES)).items():
        figures[name] = [round(float(x), 4) for x in (values[name].mean(), low, high)]
        print(f"{name:36} {figures[name][0]:.4f}  ({low:.4f} to {high:.4f})")
    return figures
