"""The schema of the examples, in TFDV's format: types, limits, and the values that categories are
known to have.
"""

from collections.abc import Iterable

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import (
    DatasetFeatureStatisticsList,
    FeatureNameStatistics,
)

from beam_jobs.validation.statistics import LISTED_VALUES, by_name, common, shares
from twinspire_core import storage
from twinspire_core.config.feature_kinds import (
    CategoriesFeature,
    CategoryFeature,
    HistoryFeature,
    TimeFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline

FILE = "schema.pbtxt"


def read(folder: str) -> schema_pb2.Schema:
    """Reads the schema from a folder of statistics."""
    return text_format.Parse(storage.read_bytes(storage.join(folder, FILE)), schema_pb2.Schema())


def write(schema: schema_pb2.Schema, folder: str) -> None:
    """Writes the schema into a folder of statistics."""
    storage.write_bytes(storage.join(folder, FILE), text_format.MessageToString(schema).encode())


def known_values(schema: schema_pb2.Schema) -> dict[str, set[str]]:
    """Values that categories are known to have; a column with too many values is not in here."""
    return {
        f.name: set(f.string_domain.value) for f in schema.feature if f.HasField("string_domain")
    }


def infer(
    p: Pipeline, stats: DatasetFeatureStatisticsList, known: schema_pb2.Schema
) -> schema_pb2.Schema:
    """The schema after a day: limits from the pipeline file, values from the days seen so far.

    Args:
      p: the pipeline.
      stats: the day's.
      known: the schema before it; empty on the first day.
    """
    limits = p.statistics
    schema = schema_pb2.Schema()
    if limits.max_volume_change < 1:
        volume = schema.dataset_constraints.num_examples_drift_comparator
        volume.min_fraction_threshold = 1 - limits.max_volume_change
        volume.max_fraction_threshold = 1 / volume.min_fraction_threshold
    values = known_values(known)
    for name, found in by_name(stats).items():
        feature = schema.feature.add(name=name)
        present = common(found).num_non_missing / max(1, stats.datasets[0].num_examples)
        feature.presence.min_fraction = max(0, round(present - limits.max_null_change, 4))
        _add_shape(p, feature)
        if found.type == FeatureNameStatistics.STRING:
            feature.type = schema_pb2.BYTES
            feature.drift_comparator.infinity_norm.threshold = limits.max_linf
            _add_values(p, feature, found, values.get(name, ()))
        else:
            _add_numbers(p, feature, found)
            feature.drift_comparator.jensen_shannon_divergence.threshold = limits.max_js
    return schema


def _add_shape(p: Pipeline, feature: schema_pb2.Feature) -> None:
    match p.features.get(feature.name):
        case VectorFeature(size=size):
            feature.shape.dim.add(size=size)
        case CategoriesFeature():
            feature.value_count.min = 0
        case HistoryFeature(length=length):
            feature.value_count.min = 0
            feature.value_count.max = length
        case _:
            feature.shape.SetInParent()


def _add_numbers(p: Pipeline, feature: schema_pb2.Feature, stats: FeatureNameStatistics) -> None:
    if stats.type == FeatureNameStatistics.FLOAT:
        feature.type = schema_pb2.FLOAT
        return
    feature.type = schema_pb2.INT
    values: dict[str, int] = {}
    for name, time in p.of_kind(TimeFeature).items():
        values |= time.values(name)
    feature.int_domain.min = 0
    feature.int_domain.max = values[feature.name] - 1


def _add_values(
    p: Pipeline, feature: schema_pb2.Feature, found: FeatureNameStatistics, seen: Iterable[str]
) -> None:
    """Lists the values of a category, unless there are too many to list."""
    if not isinstance(p.features.get(feature.name), CategoryFeature | CategoriesFeature):
        return
    stats = found.string_stats
    # Values of earlier days stay known: one that comes back after months is nothing new.
    values = {*seen, *shares(found)}
    # Only where the statistics list every value; a part of them would make the others unknown.
    if stats.unique == len(stats.rank_histogram.buckets) and len(values) <= LISTED_VALUES:
        feature.string_domain.value.extend(sorted(values))
        feature.distribution_constraints.min_domain_mass = 1 - p.statistics.max_unknown
