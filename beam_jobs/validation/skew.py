"""Whether what is served after the day looks like what training saw.

    statistics/training.binpb    DatasetFeatureStatisticsList of the rows that the transform graph is
                                 fitted on: the positives of the vocabulary days, each with counts
                                 and ages as of the start of its own day

Beside them stand the catalogue of the day's end, which the item tower embeds, and the users. Both
are rows of the day's own output, so that nothing else is asked, and figures do not depend on when
the stage runs.

Training rows are events: what is taken often counts often. So the catalogue is weighted by events
too, by those of `window.count_days` and by those of `evaluation.lately_days`. Among the former,
news of a day stands beside that of all the days before; among the latter, every item has an event
of the day behind it, which at the start of a day not all have. On good days one of the two is near
(docs/decisions/0017-evaluation.md), so the nearer one counts. Users are weighted by their
events, or all alike.

Ids come and go, and are left out. So are features of the event, which requests bring themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import PCollection
from tensorflow_metadata.proto.v0.statistics_pb2 import (
    DatasetFeatureStatisticsList,
    FeatureNameStatistics,
)

from beam_jobs.validation import statistics
from beam_jobs.validation.drift import LEAST_VALUES, furthest, js, linf
from twinspire_core import storage
from twinspire_core.config.feature_kinds import IdFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange
from twinspire_core.search.ragged import list_lengths, list_rows
from twinspire_core.storage import parquet_files

FILE = "training.binpb"

_WEIGHTS: dict[str, tuple[str | None, ...]] = {
    feature_schema.CORPUS_END: ("_popular", "_lately"),
    feature_schema.USERS: ("_past_events", None),
}
"""Columns of weights by folder; None for all alike."""
_MARKS = np.arange(1, 10) / 10
"""Deciles: where two distributions of numbers are compared."""
_SHOWN = np.array([0.1, 0.5, 0.9])
_MARGIN = 0.05
"""Of the range: so far beyond its ends is not outside. On the day that clocks are set back, all that
is as old as the count window lies an hour beyond the oldest before.
"""
_ROUNDING = 1e-9
_DIGITS = 4


@dataclass
class WriteTrainingStatistics(beam.PTransform):
    """Batches of `schema.analysis_schema`, either tower's, -> `statistics/training.binpb`."""

    p: Pipeline
    out: str

    def expand(self, rows: PCollection) -> PCollection:
        """Summarises batch by batch, adds up and writes."""
        collect = beam.CombineGlobally(
            statistics.Collect(list(compared(self.p)))
        ).without_defaults()
        return rows | "Collect" >> collect | "Write" >> beam.Map(_write, self.p, self.out)


def _write(sketches: statistics.Sketches, p: Pipeline, out: str) -> None:
    stats = statistics.to_proto(p, sketches)
    storage.write_bytes(_place(out), stats.SerializeToString(deterministic=True))


def _place(out: str) -> str:
    return storage.join(out, feature_schema.STATISTICS, FILE)


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
    place = _place(trained or out)
    if not folders or not storage.exists(place):
        return []
    stats = DatasetFeatureStatisticsList.FromString(storage.read_bytes(place))
    served = {}
    for folder in set(folders.values()):
        names = [name for name, place in folders.items() if place == folder]
        served[folder] = _read(storage.join(out, folder), [*names, *filter(None, _WEIGHTS[folder])])
    return compare(p, stats, served)


def compare(
    p: Pipeline, stats: DatasetFeatureStatisticsList, served: Mapping[str, pa.Table]
) -> list[FeatureSkew]:
    """How far each feature of what is served is from that of the training rows, the farthest
    first. Features of fewer than 50 values on either side are left out.

    Args:
      p: the pipeline.
      stats: of the training rows. Features that are not among them are left out.
      served: by folder, the rows that are served: features and weights.
    """
    trained = statistics.by_name(stats)
    found = []
    for name, folder in compared(p).items():
        if name not in trained:
            continue
        columns = [_Weighted.of(served[folder], name, weight) for weight in _WEIGHTS[folder]]
        skew = _skew(p.features[name].kind, trained[name], columns)
        if skew:
            found.append(skew)
    return sorted(found, key=lambda one: (-one.distance, -one.outside, one.feature))


def _read(place: str, columns: Sequence[str]) -> pa.Table:
    return parquet_files.read_folder(place, list(columns))


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

    @property
    def shares(self) -> np.ndarray:
        """[N] float64, of the sum of the weights."""
        shares: np.ndarray = self.weight / self.weight.sum()
        return shares


def _skew(
    kind: str, trained: FeatureNameStatistics, served: Sequence[_Weighted]
) -> FeatureSkew | None:
    """Compares with each weighting; the nearest counts."""
    if statistics.common(trained).tot_num_values < LEAST_VALUES:
        return None
    compare = _numbers
    if trained.type == FeatureNameStatistics.STRING:
        compare = _strings
    found = [
        compare(kind, trained, column) for column in served if len(column.values) >= LEAST_VALUES
    ]
    if not found:
        return None
    nearest = min(found, key=lambda one: (one.distance, one.outside))
    return nearest.model_copy(update={"outside": min(one.outside for one in found)})


def _numbers(kind: str, trained: FeatureNameStatistics, served: _Weighted) -> FeatureSkew:
    counts = statistics.bucket_counts(trained)
    low = trained.num_stats.min
    high = trained.num_stats.max
    # In float32, as they were counted: else a value may lie beyond its own.
    values = served.values.cast(pa.float32()).to_numpy()
    order = np.argsort(values, kind="stable")
    values = values[order]
    shares = served.shares[order]
    up_to = np.cumsum(shares)
    marks = values[_places(up_to, _MARKS)]
    # With the largest of each an edge, no interval holds values of both where one ends before the
    # other begins.
    edges = np.unique([*counts.quantiles(_MARKS), high, *marks, values[-1]])
    # Closed on the right, as in drift.py: a value that many rows have is told from its neighbours.
    # What is served is put into the same buckets.
    places = np.searchsorted(counts.buckets(values), counts.buckets(edges), side="right")
    below = np.append(0, up_to)[places]
    trained_below = counts.share_up_to(edges)
    distance = js(np.diff(trained_below, prepend=0), np.diff(below, prepend=0))
    margin = _MARGIN * (high - low)
    outside = float(shares[(values < low - margin) | (values > high + margin)].sum())
    return FeatureSkew(
        feature=trained.path.step[0],
        kind=kind,
        distance=_rounded(distance),
        outside=_rounded(outside),
        trained=_range(low, counts.quantiles(_SHOWN), high),
        served=_range(values[0], values[_places(up_to, _SHOWN)], values[-1]),
    )


def _places(up_to: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The first place up to which so much of the sum lies, for each rank."""
    # Sums of shares are off by what floats cannot hold.
    return np.minimum(np.searchsorted(up_to, ranks - _ROUNDING), len(up_to) - 1)


def _rounded(share: float) -> float:
    return round(min(1.0, max(0.0, share)), _DIGITS)


def _range(low: float, inner: Iterable[float], high: float) -> ValueRange:
    tenth, median, ninetieth = map(float, inner)
    return ValueRange(
        low=float(low), tenth=tenth, median=median, ninetieth=ninetieth, high=float(high)
    )


def _strings(kind: str, trained: FeatureNameStatistics, served: _Weighted) -> FeatureSkew:
    before = statistics.shares(trained)
    coded = served.values.dictionary_encode()
    shares = np.bincount(coded.indices.to_numpy(), weights=served.shares)
    now = dict(zip(coded.dictionary.to_pylist(), shares.tolist(), strict=True))
    value = furthest(before, now)
    # Of very many values only the frequent ones are listed: then nobody knows what is new.
    all_listed = sum(before.values()) > 1 - _ROUNDING
    new = sum(share for one, share in now.items() if one not in before) if all_listed else 0.0
    return FeatureSkew(
        feature=trained.path.step[0],
        kind=kind,
        distance=_rounded(linf(before, now)),
        outside=_rounded(new),
        value=value,
        trained_share=_rounded(before.get(value, 0.0)),
        served_share=_rounded(now.get(value, 0.0)),
    )
