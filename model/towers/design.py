"""The towers that a pipeline file and the vocabularies of a day ask for."""

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from model.towers.architecture import SIDES, Architecture, Attention, FeatureColumn, TableSpec
from twinspire_core.config.feature_kinds import (
    OOV_BUCKETS,
    TEXT_BUCKETS,
    TIME_PARTS,
    EmbeddedFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    TextFeature,
    TimeFeature,
    TimePart,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

_NO_TOKENS = pa.array([], pa.string())
_TIME_WIDTHS: Mapping[TimePart, int] = {"hour": 8, "weekday": 4}
"""Widths of their embeddings."""
_LAYERS, _HEADS, _DROPOUT = 2, 2, 0.2
"""`attention`: a small encoder, as histories are short and days are few (SASRec has as many)."""


def design(
    pipeline: Pipeline,
    vocabularies: Mapping[str, pa.Array],
    widths: Mapping[str, int] | None = None,
) -> Architecture:
    """Designs both towers.

    Args:
      pipeline: declares the features and widths.
      vocabularies: tokens by feature, in the order of the transform graph, for the features that
        keep a vocabulary.
      widths: widths of the parent's tables by name, which are kept: a width follows the size of the
        vocabulary, which grows from day to day, and a warm start needs equal shapes.
    """
    tables: dict[str, TableSpec] = {}
    columns: dict[str, list[FeatureColumn]] = {side: [] for side in SIDES}
    for name, feature in pipeline.features.items():
        for spec in _tables(pipeline, name, feature, vocabularies, widths or {}):
            tables[spec.name] = spec
    # After all tables: a history reads the table of items, which may be declared behind it.
    for name, feature in pipeline.features.items():
        columns[feature.tower] += _columns(pipeline, name, feature, tables)
    train = pipeline.train
    return Architecture(
        tables=tables,
        columns=columns,
        layers=dict.fromkeys(SIDES, (*train.layers, train.dimension)),
        auxiliary=bool(train.auxiliary.weight),
    )


def _tables(
    pipeline: Pipeline,
    name: str,
    feature: Feature,
    vocabularies: Mapping[str, pa.Array],
    widths: Mapping[str, int],
) -> list[TableSpec]:
    """The tables that a feature brings; a history has none of its own."""
    if isinstance(feature, TimeFeature):
        # Hours and weekdays are numbers from 0, as hash buckets are.
        return [
            TableSpec(
                name=column,
                tokens=_NO_TOKENS,
                shared=TIME_PARTS[part],
                hashed=True,
                dimension=_TIME_WIDTHS[part],
            )
            for column, part in feature.parts_by_column(name).items()
        ]
    if not isinstance(feature, EmbeddedFeature):
        return []
    is_text = isinstance(feature, TextFeature)
    tokens = _NO_TOKENS if is_text else vocabularies[name]
    shared = TEXT_BUCKETS if is_text else OOV_BUCKETS
    if isinstance(feature, IdFeature):
        width = pipeline.train.dimension
    else:
        width = widths.get(name, _usual_width(len(tokens) + shared, pipeline))
    return [TableSpec(name=name, tokens=tokens, shared=shared, hashed=is_text, dimension=width)]


def _usual_width(rows: int, pipeline: Pipeline) -> int:
    """4 times the fourth root of the number of rows, a usual rule of thumb, but not wider than the
    towers' vectors.
    """
    return int(min(pipeline.train.dimension, round(4 * rows**0.25)))


def _columns(
    pipeline: Pipeline, name: str, feature: Feature, tables: Mapping[str, TableSpec]
) -> list[FeatureColumn]:
    if feature.form == "vector" or feature.form == "number":
        column = FeatureColumn(
            name=name,
            feature=name,
            kind=feature.kind,
            form=feature.form,
            width=feature.vector_size or 1,
            context=feature.is_context,
        )
        return [column]
    columns = []
    for column_name in feature.columns(name):
        # A history shares the table of items; every other column has its own.
        table = pipeline.item_id if isinstance(feature, HistoryFeature) else column_name
        assert table is not None, "the pipeline file was checked for an item id"
        columns.append(_looked_up(pipeline, column_name, name, feature, tables[table]))
    return columns


def _looked_up(
    pipeline: Pipeline, column: str, name: str, feature: Feature, table: TableSpec
) -> FeatureColumn:
    """A column whose ids are looked up in a table."""
    train = pipeline.train
    looked_up = FeatureColumn(
        name=column,
        feature=name,
        kind=feature.kind,
        form=feature.form,
        table=table.name,
        width=table.dimension,
        dropout=isinstance(feature, IdFeature),
        context=feature.is_context,
        # Both towers then give vectors in the space of the items' embedding.
        skip=train.skip and table.name == pipeline.item_id,
    )
    if not isinstance(feature, HistoryFeature):
        return looked_up
    match train.history.pooling:
        case "sqrtn":
            return replace(looked_up, root=True)
        case "attention":
            return replace(looked_up, attention=_attention(feature, table))
        case "mean":
            return looked_up


def _attention(feature: HistoryFeature, table: TableSpec) -> Attention:
    if table.dimension % _HEADS:
        raise UsageError(
            f"train.history.pooling = 'attention' halves the vectors between {_HEADS} heads, so that"
            f" train.dimension is even; found {table.dimension}. Set an even one."
        )
    return Attention(
        width=table.dimension,
        length=feature.length,
        layers=_LAYERS,
        heads=_HEADS,
        dropout=_DROPOUT,
    )
