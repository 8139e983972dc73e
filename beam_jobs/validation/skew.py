"""Whether what is served after the day looks like what training saw.

`statistics.json` has the columns of the rows that the transform graph is fitted on: the positives of
the vocabulary days, each with counts and ages as of the start of its own day. Beside them stand the
catalogue of the day's end, which the item tower embeds, and the users. Both
are rows of the day's own output, so that nothing else is asked, and figures do not depend on when
the stage runs.

Training rows are events: what is taken often counts often. So the catalogue is weighted by events
too, by those of `window.count_days` and by those of the last day. Among the former,
news of a day stands beside that of all the days before; among the latter, every item has an event
of the day behind it, which at the start of a day not all have. On good days one of the two is near
(docs/decisions/0017-evaluation.md), so the nearer one counts. Users are weighted by their
events, or all alike.

Ids come and go, and are left out. So are features of the event, which requests bring themselves.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from beam_jobs.validation.drift import LEAST_VALUES, Numbers, furthest, linf
from twinspire_core import storage
from twinspire_core.config.feature_kinds import IdFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.column_statistics import Column, StatisticsFile
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange
from twinspire_core.search.ragged import list_lengths, list_rows
from twinspire_core.storage import parquet_files

_WEIGHTS: dict[str, tuple[str | None, ...]] = {
    feature_schema.CORPUS_END: ("_popular", "_lately"),
    feature_schema.USERS: ("_past_events", None),
}
"""Columns of weights by folder; None for all alike."""
_SHOWN = np.array([0.1, 0.5, 0.9])
_MARGIN = 0.05
"""Of the range: so far beyond its ends is not outside. On the day that clocks are set back, all that
is as old as the count window lies an hour beyond the oldest before.
"""
_DIGITS = 4


def compared(p: Pipeline) -> dict[str, str]:
    """The features that are looked at, and the folder of the rows that are served."""
    folders = {}
    for name, feature in p.features.items():
        if not feature.is_analysed or isinstance(feature, IdFeature):
            continue
        if feature.tower == "item":
            folders[name] = feature_schema.CORPUS_END
        elif feature.source_table == "users":
            folders[name] = feature_schema.USERS
    return folders


def measure(p: Pipeline, out: str, trained: str | None = None) -> list[FeatureSkew]:
    """`compare`, of what the features stage wrote; nothing where it is not known what was trained
    on.

    Args:
      p: the pipeline.
      out: URI of the output that has the catalogue and the users.
      trained: URI of the one that was trained on; by default the same.
    """
    folders = compared(p)
    statistics = StatisticsFile.find(trained or out)
    if not folders or statistics is None:
        return []
    served = {}
    for folder in set(folders.values()):
        names = [name for name, place in folders.items() if place == folder]
        names += filter(None, _WEIGHTS[folder])
        served[folder] = parquet_files.read_folder(storage.join(out, folder), names)
    return compare(p, statistics.training, served)


def compare(
    p: Pipeline, trained: Mapping[str, Column], served: Mapping[str, pa.Table]
) -> list[FeatureSkew]:
    """How far each feature of what is served is from that of the training rows, the farthest
    first. Features of fewer than 50 values on either side are left out.

    Args:
      p: the pipeline.
      trained: columns of the training rows. Features that are not among them are left out.
      served: by folder, the rows that are served: features and weights.
    """
    skews = []
    for name, folder in compared(p).items():
        if name not in trained or sum(trained[name].counts) < LEAST_VALUES:
            continue
        measure_one = _strings if trained[name].type == "string" else _numbers
        columns = [_Weighted.of(served[folder], name, weight) for weight in _WEIGHTS[folder]]
        # Compares with each weighting; the nearest counts.
        of_weightings = [
            FeatureSkew(feature=name, kind=p.features[name].kind, **measure_one(trained[name], one))
            for one in columns
            if len(one.values) >= LEAST_VALUES
        ]
        if of_weightings:
            nearest = min(of_weightings, key=lambda one: (one.distance, one.outside))
            outside = min(one.outside for one in of_weightings)
            skews.append(nearest.model_copy(update={"outside": outside}))
    return sorted(skews, key=lambda one: (-one.distance, -one.outside, one.feature))


class _Weighted(NamedTuple):
    """The known values of a column of what is served.

    Attributes:
      values: [N] numbers or strings.
      weight: [N] float64, not negative.
    """

    values: pa.Array
    weight: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, name: str, weight: str | None) -> Self:
        """A column of a table, weighted by another one; by none all rows count alike."""
        column = table.column(name).combine_chunks()
        by = np.ones(len(table))
        if weight:
            by = table.column(weight).fill_null(0).to_numpy().astype(np.float64)
        if pa.types.is_list(column.type):
            by = by[list_rows(list_lengths(column))]
            column = column.flatten()
        known = column.is_valid().to_numpy(zero_copy_only=False) & (by > 0)
        return cls(column.filter(pa.array(known)), by[known])


def _numbers(trained: Column, served: _Weighted) -> dict[str, Any]:
    before = Numbers.of(trained)
    now = Numbers.weighted(served.values, served.weight)
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


def _rounded(share: float) -> float:
    return round(min(1.0, max(0.0, float(share))), _DIGITS)


def _range(low: np.float32, numbers: Numbers, high: np.float32) -> ValueRange:
    tenth, median, ninetieth = map(float, numbers.quantiles(_SHOWN))
    return ValueRange(
        low=float(low), tenth=tenth, median=median, ninetieth=ninetieth, high=float(high)
    )


def _strings(trained: Column, served: _Weighted) -> dict[str, Any]:
    before = trained.shares
    coded = served.values.dictionary_encode()
    shares = np.bincount(coded.indices.to_numpy(), weights=served.weight / served.weight.sum())
    now = dict(zip(coded.dictionary.to_pylist(), shares.tolist(), strict=True))
    value = furthest(before, now)
    # Of very many values only some are listed: then nobody knows what is new.
    new = sum(share for one, share in now.items() if one not in before) if trained.exact else 0.0
    return {
        "distance": _rounded(linf(before, now)),
        "outside": _rounded(new),
        "value": value,
        "trained_share": _rounded(before.get(value, 0.0)),
        "served_share": _rounded(now.get(value, 0.0)),
    }
