"""How far apart the distributions of a column are on two days, from their statistics."""

from collections.abc import Mapping

import datasketches as ds
import numpy as np
from google.protobuf.wrappers_pb2 import BytesValue
from tensorflow_metadata.proto.v0.statistics_pb2 import FeatureNameStatistics

from beam_jobs.validation.statistics import SKETCH, common

_GRID = 10


def linf(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """L-infinity distance max |p(v) - q(v)| of two distributions over values, 0 to 1."""
    return max((abs(p.get(v, 0) - q.get(v, 0)) for v in p.keys() | q.keys()), default=0.0)


def furthest(p: Mapping[str, float], q: Mapping[str, float]) -> str:
    """The value that has this distance."""
    return max(p.keys() | q.keys(), key=lambda v: (abs(p.get(v, 0) - q.get(v, 0)), v))


def noise(n: int) -> float:
    """L-infinity distance that chance alone explains: two standard errors, at the most, of a share
    among n values.
    """
    return 2 * (1 / max(1, n)) ** 0.5


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
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / m[some])))


def on_one_grid(a: ds.kll_floats_sketch, b: ds.kll_floats_sketch) -> tuple[np.ndarray, np.ndarray]:
    """Shares of two columns of numbers between the deciles of either: [N] each, N at most 21.

    Intervals are closed on the right, so that a value that many rows have is told apart from its
    neighbours.
    """
    marks = [i / _GRID for i in range(_GRID)]
    edges = sorted({*a.get_quantiles(marks), *b.get_quantiles(marks)})
    below_a, below_b = (np.asarray(sketch.get_cdf(edges, inclusive=True)) for sketch in (a, b))
    return np.diff(below_a, prepend=0), np.diff(below_b, prepend=0)


def quantiles(feature: FeatureNameStatistics) -> ds.kll_floats_sketch:
    """The sketch of a column of numbers."""
    value = BytesValue()
    next(custom for custom in feature.custom_stats if custom.name == SKETCH).any.Unpack(value)
    return ds.kll_floats_sketch.deserialize(value.value)


def shares(feature: FeatureNameStatistics) -> dict[str, float]:
    """Share of each listed string among all values of the column, most frequent first."""
    total = max(1, common(feature).tot_num_values)
    return {
        bucket.label: bucket.sample_count / total
        for bucket in feature.string_stats.rank_histogram.buckets
    }
