"""How far the columns' distributions of a day are from those of an earlier day.

Both are known by their statistics only.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.anomalies_pb2 import DriftSkewInfo
from tensorflow_metadata.proto.v0.statistics_pb2 import (
    DatasetFeatureStatisticsList,
    FeatureNameStatistics,
)

from beam_jobs.validation.bucket_counts import BucketCounts
from beam_jobs.validation.statistics import bucket_counts, by_name, common, shares
from twinspire_core.config.feature_kinds import TimeFeature
from twinspire_core.config.pipeline import Pipeline

LEAST_VALUES = 50
"""With fewer values on either day, distributions differ by chance."""
_DECILES = np.arange(10) / 10

Measured = DriftSkewInfo.Measurement
Drift: TypeAlias = "DriftSkewInfo.Measurement"


class ComparedDays(NamedTuple):
    """A day beside what is known.

    Attributes:
      p: the pipeline.
      stats: the day's statistics.
      known: the schema before it; empty on the first day.
      earlier: statistics of the day before, or of the newest before that; None on the first day.
      when: that day, as people are told.
    """

    p: Pipeline
    stats: DatasetFeatureStatisticsList
    known: schema_pb2.Schema
    earlier: DatasetFeatureStatisticsList | None = None
    when: str = "the day before"

    def pairs(self) -> Iterator[tuple[str, FeatureNameStatistics, FeatureNameStatistics]]:
        """Columns that both days have, with the same type."""
        before = by_name(self.earlier) if self.earlier is not None else {}
        for name, now in by_name(self.stats).items():
            if name in before and before[name].type == now.type:
                yield name, now, before[name]


def drifts(c: ComparedDays) -> dict[str, Drift]:
    """Distance of each column's distribution from that of the earlier day."""
    # Two days in a row never share a weekday.
    weekdays = {
        column
        for name, f in c.p.of_kind(TimeFeature).items()
        for column, part in f.parts_by_column(name).items()
        if part == "weekday"
    }
    found = {}
    for name, now, then in c.pairs():
        values = min(common(now).tot_num_values, common(then).tot_num_values)
        if name in weekdays or values < LEAST_VALUES:
            continue
        # Strings have shares of values, of which the one that moved most counts; numbers have
        # counts in buckets.
        if now.type == FeatureNameStatistics.STRING:
            value = linf(shares(now), shares(then))
            limit = max(c.p.statistics.max_linf, noise(values))
            found[name] = Measured(type=Measured.L_INFTY, value=value, threshold=limit)
        else:
            shares_now, shares_then = on_one_grid(bucket_counts(now), bucket_counts(then))
            value = js(shares_now, shares_then)
            kind = Measured.JENSEN_SHANNON_DIVERGENCE
            found[name] = Measured(type=kind, value=value, threshold=c.p.statistics.max_js)
    return found


def linf(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """L-infinity distance max |p(v) - q(v)| of two distributions over values, 0 to 1."""
    distances = [abs(p.get(value, 0) - q.get(value, 0)) for value in p.keys() | q.keys()]
    return max(distances, default=0.0)


def furthest(p: Mapping[str, float], q: Mapping[str, float]) -> str:
    """The value that has this distance; of several the last by name."""

    def distance_then_name(value: str) -> tuple[float, str]:
        return abs(p.get(value, 0) - q.get(value, 0)), value

    return max(p.keys() | q.keys(), key=distance_then_name)


def noise(n: int) -> float:
    """L-infinity distance that chance alone explains: two standard errors, at the most, of a share
    among n values.
    """
    return float(2 * (1 / max(1, n)) ** 0.5)


def js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, 0 to 1: (KL(p | m) + KL(q | m)) / 2, where m = (p + q) /
    2.

    Args:
      p: [N] shares that sum to 1.
      q: [N] shares that sum to 1.
    """
    m = (p + q) / 2
    return (_kl(p, m) + _kl(q, m)) / 2


def _kl(p: np.ndarray, m: np.ndarray) -> float:
    """KL(p | m) in bits, where m > 0 wherever p > 0; 0 log 0 is 0."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / m[some])))


def on_one_grid(a: BucketCounts, b: BucketCounts) -> tuple[np.ndarray, np.ndarray]:
    """Shares of two columns of numbers between the deciles of either: [N] each, N at most 21.

    Intervals are closed on the right, so that a value that many rows have is told apart from its
    neighbours.
    """
    # In the same buckets: else an edge would cut one side's and not the other's.
    bits = max(a.dropped_bits, b.dropped_bits)
    a = a.coarsened(bits)
    b = b.coarsened(bits)
    edges = np.unique(np.concatenate([a.quantiles(_DECILES), b.quantiles(_DECILES)]))
    up_to_a = np.append(a.share_up_to(edges), 1)
    up_to_b = np.append(b.share_up_to(edges), 1)
    return np.diff(up_to_a, prepend=0), np.diff(up_to_b, prepend=0)
