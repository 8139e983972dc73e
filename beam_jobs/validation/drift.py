"""Measures drift, which is how far a column's values are from those of another day, and skew, which is how
far served values are from trained ones.

`statistics.json` has the columns of the rows that the transform graph is fitted on: the positives of
the vocabulary days, each with its counts and ages as of the start of its own day. Skew compares them
with the catalogue at the end of the day, which the item tower embeds, and with the users. Both lie in
the day's own output, so the figures do not depend on when the stage runs.

Training rows are events, in which popular items come often. So the catalogue is weighted by events
too, once by those of `window.count_days` and once by those of the last day. With the first weights,
today's news counts like that of all days before; with the second, every item has an event of the last
day, which not every item has at the start of a day. On a good day one of the two is near
(docs/decisions/0017-evaluation.md), so the nearer one counts. Users are weighted by their events, or
all alike.

Ids come and go, so skew leaves them out. It leaves out features of the event too, which requests
bring themselves.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from twinspire_core import storage
from twinspire_core.config.feature_kinds import AgeFeature, IdFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import Column, FeatureSkew, StatisticsFile, ValueRange
from twinspire_core.search.ragged import list_lengths, list_rows
from twinspire_core.storage import parquet_files

LEAST_VALUES = 50
"""With fewer values on either side, distributions differ by chance."""

_DECILES = np.arange(1, 10) / 10

# Sums of shares are off by the rounding of floats.
_ROUNDING = 1e-9

# Columns that rows are weighted by, by folder of the rows that are served; None weights all
# alike.
_WEIGHTS: dict[str, tuple[str | None, ...]] = {
    feature_schema.CORPUS_END: ("_popular", "_lately"),
    feature_schema.USERS: ("_past_events", None),
}

_SHOWN = np.array([0.1, 0.5, 0.9])

# Share of the range by which a value may lie beyond its ends and not count as outside: on the
# day that clocks are set back, items as old as the count window are an hour older than any
# before.
_MARGIN = 0.05

_DIGITS = 4


class Numbers(NamedTuple):
    """A distribution of numbers.

    Attributes:
      values: [N] float32, ascending, one at least.
      up_to: [N] float64, the share of all that lies up to each.
    """

    values: np.ndarray
    up_to: np.ndarray

    @classmethod
    def weighted(cls, values: ArrayLike, weights: ArrayLike) -> Self:
        """Of [N] numbers in any order, with their weights."""
        # In float32, as examples have them: else a value may lie beyond itself.
        numbers = np.asarray(values, np.float32)
        order = np.argsort(numbers, kind="stable")
        up_to = np.cumsum(np.asarray(weights, np.float64)[order])
        return cls(numbers[order], up_to / up_to[-1])

    @classmethod
    def of(cls, column: Column) -> Self:
        """Of the listed values of a column."""
        return cls.weighted(column.listed, column.counts)

    def quantiles(self, ranks: ArrayLike) -> np.ndarray:
        """For each of [R] ranks from 0 to 1, the smallest number up to which that share lies: [R] float32."""
        places = np.searchsorted(self.up_to, np.asarray(ranks) - _ROUNDING)
        return self.values[np.minimum(places, len(self.values) - 1)]

    def share_up_to(self, numbers: ArrayLike) -> np.ndarray:
        """[M] float64, the share of all that lies up to each of [M] numbers."""
        places = np.searchsorted(self.values, np.asarray(numbers, np.float32), side="right")
        return np.asarray(np.append(0, self.up_to)[places])

    def distance(self, other: Self) -> float:
        """Jensen-Shannon divergence in bits between the deciles of both."""
        # With the largest of each an edge, no interval holds values of both where one ends before
        # the other begins.
        ends = [*self.values[-1:], *other.values[-1:]]
        edges = np.unique([*self.quantiles(_DECILES), *other.quantiles(_DECILES), *ends])
        # Closed on the right, so that a value that many rows have is told apart from its
        # neighbours.
        parts = (np.diff(side.share_up_to(edges), prepend=0) for side in (self, other))
        return js(*parts)


def linf(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """L-infinity distance max |p(v) - q(v)| of two distributions over values, 0 to 1."""
    return max((abs(p.get(v, 0) - q.get(v, 0)) for v in p.keys() | q.keys()), default=0.0)


def furthest(p: Mapping[str, float], q: Mapping[str, float]) -> str:
    """The value with the largest |p(v) - q(v)|; of several the last by name."""
    return max(
        p.keys() | q.keys(), key=lambda value: (abs(p.get(value, 0) - q.get(value, 0)), value)
    )


def noise(n: int) -> float:
    """L-infinity distance that chance alone explains: at most two standard errors of a share
    among n values.
    """
    return float(2 * (1 / max(1, n)) ** 0.5)


def js(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two [N] arrays of shares in bits, 0 to 1: with m = (p + q) / 2,
    (KL(p | m) + KL(q | m)) / 2.
    """
    m = (p + q) / 2
    return (_kl(p, m) + _kl(q, m)) / 2


def _kl(p: np.ndarray, m: np.ndarray) -> float:
    """KL(p | m) in bits, where m > 0 wherever p > 0; 0 log 0 is 0."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / m[some])))


def compared_features(p: Pipeline) -> dict[str, str]:
    """The features whose skew is measured, and for each the folder of the rows that are served."""
    folders = {}
    for name, feature in p.features.items():
        if not feature.is_analysed or isinstance(feature, IdFeature):
            continue
        if feature.tower == "item":
            folders[name] = feature_schema.CORPUS_END
        elif feature.source_table == "users":
            folders[name] = feature_schema.USERS
    return folders


def grows_with_the_log(p: Pipeline, name: str, *highest: float | None) -> bool:
    """Whether a column counts ages in a log that is shorter than their window: they rise each day, until the
    log is as long. `highest`: the largest value of each side that is compared.
    """
    feature = p.features.get(name)
    if not isinstance(feature, AgeFeature) or feature.column:
        return False
    return any(age is not None and age < p.window.count_days - 1 for age in highest)


def measure_skew(p: Pipeline, out: str, trained: str | None = None) -> list[FeatureSkew]:
    """`compare_skew` on the files of the features stage; an empty list where the statistics of the
    training rows are gone.

    Args:
      out: URI of the stage's output with the catalogue and the users.
      trained: URI of the output whose examples were trained on; by default the same.
    """
    folders = compared_features(p)
    statistics = StatisticsFile.find(trained or out)
    if not folders or statistics is None:
        return []
    served = {}
    # Read once for all features of a folder.
    for folder in set(folders.values()):
        names = [name for name, its_folder in folders.items() if its_folder == folder]
        names += filter(None, _WEIGHTS[folder])
        served[folder] = parquet_files.read_folder(storage.join(out, folder), names)
    return compare_skew(p, statistics.training, served)


def compare_skew(
    p: Pipeline, trained: Mapping[str, Column], served: Mapping[str, pa.Table]
) -> list[FeatureSkew]:
    """How far each feature of the served rows is from that of the training rows, the farthest first.
    Features with fewer than 50 values on either side are left out, and ages that grow with the log.

    Args:
      trained: columns of the training rows; features that are not among them are left out.
      served: by folder, the rows that are served, with features and weights.
    """
    skews = []
    for name, folder in compared_features(p).items():
        if name not in trained or sum(trained[name].counts) < LEAST_VALUES:
            continue
        distance = _strings if trained[name].type == "string" else _numbers
        columns = [_weighted(served[folder], name, by) for by in _WEIGHTS[folder]]
        skews_by_weight = [
            FeatureSkew(
                feature=name, kind=p.features[name].kind, **distance(trained[name], values, weights)
            )
            for values, weights in columns
            if len(values) >= LEAST_VALUES
        ]
        highest = (skew.served.high for skew in skews_by_weight if skew.served)
        if skews_by_weight and not grows_with_the_log(p, name, trained[name].max, *highest):
            nearest = min(skews_by_weight, key=lambda skew: (skew.distance, skew.outside))
            outside = min(skew.outside for skew in skews_by_weight)
            skews.append(nearest.model_copy(update={"outside": outside}))
    return sorted(skews, key=lambda skew: (-skew.distance, -skew.outside, skew.feature))


def _weighted(table: pa.Table, name: str, by: str | None) -> tuple[pa.Array, np.ndarray]:
    """The values of a served column, and their weights by another column, or by None with all rows
    alike: [N] numbers or strings, none missing, and [N] float64, all above 0.
    """
    column = table.column(name).combine_chunks()
    weights = np.ones(len(table))
    if by:
        weights = table.column(by).fill_null(0).to_numpy().astype(np.float64)
    if pa.types.is_list(column.type):
        weights = weights[list_rows(list_lengths(column))]
        column = column.flatten()
    counts = column.is_valid().to_numpy(zero_copy_only=False) & (weights > 0)
    return column.filter(pa.array(counts)), weights[counts]


def _numbers(trained: Column, values: pa.Array, weights: np.ndarray) -> dict[str, Any]:
    before = Numbers.of(trained)
    now = Numbers.weighted(values, weights)
    low = np.float32(trained.min)
    high = np.float32(trained.max)
    margin = np.float32(_MARGIN) * (high - low)
    is_outside = (now.values < low - margin) | (now.values > high + margin)
    return {
        "distance": _rounded(before.distance(now)),
        "outside": _rounded(np.diff(now.up_to, prepend=0)[is_outside].sum()),
        "trained": _range(low, before, high),
        "served": _range(now.values[0], now, now.values[-1]),
    }


def _range(low: np.float32, numbers: Numbers, high: np.float32) -> ValueRange:
    tenth, median, ninetieth = map(float, numbers.quantiles(_SHOWN))
    return ValueRange(
        low=float(low), tenth=tenth, median=median, ninetieth=ninetieth, high=float(high)
    )


def _strings(trained: Column, values: pa.Array, weights: np.ndarray) -> dict[str, Any]:
    before = trained.shares
    coded = values.dictionary_encode()
    shares = np.bincount(coded.indices.to_numpy(), weights=weights / weights.sum())
    now = dict(zip(coded.dictionary.to_pylist(), shares.tolist(), strict=True))
    value = furthest(before, now)
    # Of very many values only some are listed, so that a new value cannot be told from an unlisted one.
    new = sum(share for x, share in now.items() if x not in before) if trained.exact else 0.0
    return {
        "distance": _rounded(linf(before, now)),
        "outside": _rounded(new),
        "value": value,
        "trained_share": _rounded(before.get(value, 0.0)),
        "served_share": _rounded(now.get(value, 0.0)),
    }


def _rounded(share: float) -> float:
    return round(min(1.0, max(0.0, float(share))), _DIGITS)
