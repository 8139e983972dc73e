"""The statistics of a day's examples, in the format of TensorFlow Data Validation.

    statistics/stats.binpb       DatasetFeatureStatisticsList; stats.json is the same for people,
                                 without long lists
    statistics/schema.pbtxt      Schema: types, known values and limits, see anomalies.py
    statistics/anomalies.pbtxt   Anomalies against the schema and the statistics of the day before

Numbers carry their counts in buckets as a custom statistic, by which two days are compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import apache_beam as beam
import datasketches as ds
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import PCollection
from google.protobuf import json_format
from google.protobuf.wrappers_pb2 import BytesValue
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from beam_jobs.transform.analysis import rounded
from beam_jobs.validation.bucket_counts import BucketCounts
from beam_jobs.validation.sketches import Lengths, Numbers, Sketch, Strings, sketch
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

STATS = "stats.binpb"
STATS_JSON = "stats.json"
LISTED_VALUES = 10_000
"""Values of a column that are listed with their counts."""
TOP_VALUES = 20
BUCKET_COUNTS = "bucket_counts"
"""The name of the custom statistic: `BucketCounts.to_bytes`."""

_KLL_SKETCH = "kll_floats_sketch"
"""What stood there until 0.2, and still does for whoever goes back to that release: it stops without."""
_KLL_VALUES = 1_000
_KLL_K = 1_024
"""A sketch of no more values than this draws none of them at random."""
_DECILES = np.arange(1, 10) / 10
_NOT_DATA = ("_time", "_holdout")

Sketches = dict[str, Sketch]


def columns(p: Pipeline) -> list[str]:
    """Columns of the examples that are looked at: features, reward and label, and ids that are no
    feature.
    """
    known = set()
    if p.user_id:
        known.add("_user")
    if p.item_id:
        known.add("_item")
    return [
        f.name
        for f in feature_schema.example_schema(p)
        if f.name not in known and f.name not in _NOT_DATA
    ]


@dataclass
class WriteStatistics(beam.PTransform):
    """Batches of examples -> `statistics/stats.*`."""

    p: Pipeline
    out: str

    def expand(self, examples: PCollection) -> PCollection:
        """Summarises batch by batch, adds up and writes."""
        collect = beam.CombineGlobally(Collect(columns(self.p))).without_defaults()
        sketches = examples | "Summarise" >> collect
        return sketches | "Write" >> beam.Map(_write, self.p, self.out)


def _write(sketches: Sketches, p: Pipeline, out: str) -> None:
    stats = to_proto(p, sketches)
    write(stats, storage.join(out, feature_schema.STATISTICS))


class Collect(beam.CombineFn):
    """Batches, which may lack some of the columns, -> a sketch of each column."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def create_accumulator(self) -> Sketches:
        """Nothing."""
        return {}

    def add_input(self, sketches: Sketches, batch: pa.RecordBatch | pa.Table) -> Sketches:
        """Adds a batch."""
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        there = [name for name in self._names if name in table.column_names]
        of_batch = {name: sketch(table[name]) for name in there}
        return self.merge_accumulators([sketches, of_batch])

    def merge_accumulators(self, parts: Iterable[Sketches]) -> Sketches:
        """Adds parts."""
        total: Sketches = {}
        for part in parts:
            for name, found in part.items():
                if name in total:
                    total[name].merge(found)  # type: ignore[arg-type]
                else:
                    total[name] = found
        return total

    def extract_output(self, sketches: Sketches) -> Sketches:
        """The sketches."""
        return sketches


def to_proto(p: Pipeline, sketches: Sketches) -> pb.DatasetFeatureStatisticsList:
    """Writes sketches down as TFDV does."""
    data = pb.DatasetFeatureStatistics(name=feature_schema.EXAMPLES)
    data.num_examples = max((found.lengths.rows for found in sketches.values()), default=0)
    integers = {f.name for f in feature_schema.example_schema(p) if pa.types.is_integer(f.type)}
    for name, found in sketches.items():
        feature = data.features.add()
        feature.path.step.append(name)
        if isinstance(found, Strings):
            _strings(feature, found)
        else:
            feature.type = pb.FeatureNameStatistics.FLOAT
            if name in integers:
                feature.type = pb.FeatureNameStatistics.INT
            _numbers(feature, found)
    return pb.DatasetFeatureStatisticsList(datasets=[data])


def _common(stats: pb.CommonStatistics, lengths: Lengths) -> None:
    stats.num_non_missing = lengths.filled
    stats.num_missing = lengths.rows - lengths.filled
    stats.min_num_values = lengths.shortest
    stats.max_num_values = lengths.longest
    stats.avg_num_values = lengths.values / max(1, lengths.filled)
    stats.tot_num_values = lengths.values


def _strings(feature: pb.FeatureNameStatistics, column: Strings) -> None:
    feature.type = pb.FeatureNameStatistics.STRING
    stats = feature.string_stats
    _common(stats.common_stats, column.lengths)
    stats.unique = column.unique
    stats.avg_length = column.letters / max(1, column.lengths.values)
    # TFDV's rank histogram has a bucket for each value here: it serves as the list of values.
    for rank, (value, count) in enumerate(column.values()[:LISTED_VALUES]):
        if rank < TOP_VALUES:
            stats.top_values.add(value=value, frequency=count)
        stats.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=value, sample_count=count
        )


def _numbers(feature: pb.FeatureNameStatistics, column: Numbers) -> None:
    stats = feature.num_stats
    _common(stats.common_stats, column.lengths)
    n = column.moments.n
    spread = column.moments.spread
    # Beside the spread, what is left of a mean of 0 is the order of adding.
    stats.mean = rounded(column.moments.mean) if abs(column.moments.mean) > 1e-12 * spread else 0.0
    stats.num_zeros = column.zeros
    counts = BytesValue(value=column.buckets.to_bytes())
    feature.custom_stats.add(name=BUCKET_COUNTS).any.Pack(counts)
    quantiles = BytesValue(value=_kll_sketch(column.buckets))
    feature.custom_stats.add(name=_KLL_SKETCH).any.Pack(quantiles)
    if n == 0:
        return
    stats.std_dev = rounded(spread)
    marks = [column.least, *map(float, column.buckets.quantiles([*_DECILES, 1]))]
    stats.min = marks[0]
    stats.median = marks[5]
    stats.max = marks[-1]
    histogram = stats.histograms.add(type=pb.Histogram.QUANTILES)
    for low, high in pairwise(marks):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=n / 10)


def _kll_sketch(counts: BucketCounts) -> bytes:
    """Of as many values as can be held exactly: all of them, or quantiles at equal distances."""
    sketch = ds.kll_floats_sketch(_KLL_K)
    n = min(counts.total, _KLL_VALUES)
    sketch.update(counts.quantiles(np.linspace(0, 1, n)))
    return bytes(sketch.serialize())


def write(stats: pb.DatasetFeatureStatisticsList, folder: str) -> None:
    """Writes statistics, for programs and for people."""
    # Deterministic, so that the same rows give the same bytes.
    storage.write_bytes(storage.join(folder, STATS), stats.SerializeToString(deterministic=True))
    short = pb.DatasetFeatureStatisticsList.FromString(stats.SerializeToString())
    for feature in short.datasets[0].features:
        feature.ClearField("custom_stats")
        if feature.HasField("string_stats"):
            feature.string_stats.ClearField("rank_histogram")
    storage.write_bytes(
        storage.join(folder, STATS_JSON),
        json_format.MessageToJson(short, ensure_ascii=False).encode(),
    )


def read(folder: str) -> pb.DatasetFeatureStatisticsList:
    """Reads statistics."""
    return pb.DatasetFeatureStatisticsList.FromString(
        storage.read_bytes(storage.join(folder, STATS))
    )


def by_name(stats: pb.DatasetFeatureStatisticsList) -> dict[str, pb.FeatureNameStatistics]:
    """The columns' statistics."""
    return {feature.path.step[0]: feature for feature in stats.datasets[0].features}


def common(feature: pb.FeatureNameStatistics) -> pb.CommonStatistics:
    """What columns of any type have."""
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def bucket_counts(feature: pb.FeatureNameStatistics) -> BucketCounts:
    """How often each number came, of a column of numbers."""
    found = {custom.name: custom.any for custom in feature.custom_stats}
    value = BytesValue()
    if BUCKET_COUNTS in found:
        found[BUCKET_COUNTS].Unpack(value)
        return BucketCounts.from_bytes(value.value)
    found[_KLL_SKETCH].Unpack(value)
    items = list(ds.kll_floats_sketch.deserialize(value.value))
    return BucketCounts.of([number for number, _ in items], [weight for _, weight in items])


def shares(feature: pb.FeatureNameStatistics) -> dict[str, float]:
    """Share of each listed string among all values of the column, most frequent first."""
    total = max(1, common(feature).tot_num_values)
    return {
        bucket.label: bucket.sample_count / total
        for bucket in feature.string_stats.rank_histogram.buckets
    }
