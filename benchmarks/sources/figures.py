"""What sources and fusions of them find on the days that were kept, and how far they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.sources.cases import FUSIONS, METRIC, K, Log
from benchmarks.sources.kept_days import Kept, read_lists
from model.fusion_fitting.fusion_weights import MAX_QUERIES, fit_weights
from twinspire_core.fusion.candidate_pool import pool_candidates
from twinspire_core.fusion.fuse import fuse
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.ranking import by_user
from twinspire_core.metrics.slices import slice_of
from twinspire_core.search.ragged import Ragged

FITTED_DAYS = 3
"""Days before a day whose lists weights are fitted on."""
RESAMPLES = 1000


def measure(log: Log, days: int) -> list[dict[str, Any]]:
    """Rows of the table: what each source and fusion found, and its difference from what is now."""
    bounds = log.p.evaluation.slices
    kept = [read_lists(log, n) for n in range(1, days + 1)]
    parts = []
    for n in range(1, len(kept)):
        found = recalls(kept[max(0, n - FITTED_DAYS) : n], kept[n], bounds)
        parts.append({name: values[kept[n].headline] for name, values in found.items()})
    users = np.concatenate([day.user[day.headline] for day in kept[1:]])
    _, user = np.unique(users, return_inverse=True)
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    more = {name: values[name] - values["as now"] for name in values}
    spans = intervals(resampled_means(more, user, RESAMPLES))
    return [
        {
            "name": name,
            METRIC: float(np.nanmean(values[name])),
            "by_day": [float(np.nanmean(part[name])) for part in parts],
            "more": float(np.nanmean(more[name])),
            "low": float(spans[name][0]),
            "high": float(spans[name][1]),
            "queries": len(user),
            "users": int(user.max()) + 1,
        }
        for name in values
    ]


def recalls(days: Sequence[Kept], today: Kept, bounds: Sequence[int]) -> dict[str, np.ndarray]:
    """Recall of each query of a day, [U], by source and by fusion.

    Args:
      days: days before, that weights are fitted on.
      today: the day.
      bounds: where slices of users begin.
    """
    found = {}
    for name, ranked in today.lists.items():
        found[name] = by_user(ranked, today.taken, [K])[METRIC]
    for name, names in FUSIONS.items():
        weights = np.stack([_weights(days, names, bounds, n) for n in range(len(bounds) + 1)])
        of_query = weights[slice_of(today.past_events, bounds)]
        pool = pool_candidates([today.lists[source] for source in names])
        found[name] = by_user(fuse(pool, of_query, K).items, today.taken, [K])[METRIC]
    return found


def _weights(
    days: Sequence[Kept], names: Sequence[str], bounds: Sequence[int], number: int
) -> np.ndarray:
    """Weights of a slice of users; of all users, if these are too few."""
    rows = [np.flatnonzero(slice_of(day.past_events, bounds) == number) for day in days]
    if sum(map(len, rows)) < 100:
        rows = [np.arange(len(day.user)) for day in days]
    most = MAX_QUERIES // len(days)
    rows = [some[np.linspace(0, len(some) - 1, min(len(some), most)).astype(int)] for some in rows]
    lists = [
        np.concatenate([day.lists[name][some] for day, some in zip(days, rows, strict=True)])
        for name in names
    ]
    taken = [day.taken.take(some) for day, some in zip(days, rows, strict=True)]
    values = np.concatenate([one.values for one in taken])
    truth = Ragged.of_lengths(values, np.concatenate([one.lengths for one in taken]))
    return fit_weights(pool_candidates(lists), truth, [K, 10])


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'lists':18}{METRIC:>10}  more than as now, 95% interval"]
    for row in rows:
        span = f"{row['more']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        lines.append(f"{row['name']:18}{row[METRIC]:10.4f}  {span}")
    lines.append(f"{rows[0]['queries']:,} queries of {rows[0]['users']:,} users")
    return "\n".join(lines)
