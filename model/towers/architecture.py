"""The architecture of the towers: columns, embedding tables and widths of layers. It follows from the
pipeline file and from the vocabularies of a day.

The rows of a table are: row 0 for a missing value; then the vocabulary, in the order of the transform
graph; then the shared rows of ids outside it (`oov`). A hashed feature has row 0 and its buckets.
Every row has a key, which stays the same when the row's number changes:

    missing, =TOKEN, oov:I, bucket:I
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config.feature_kinds import (
    OOV_BUCKETS,
    TEXT_BUCKETS,
    TIME_PARTS,
    EmbeddedFeature,
    Feature,
    Form,
    HistoryFeature,
    IdFeature,
    TextFeature,
    TimeFeature,
    TimePart,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

SIDES = ("query", "item")
_MISSING = "missing"
_NO_TOKENS = pa.array([], pa.string())
# Widths of their embeddings.
_TIME_WIDTHS: Mapping[TimePart, int] = {"hour": 8, "weekday": 4}
LINEAR = ".linear"
"""The table of the linear part has the name of the items' table, with this suffix."""
_LINEAR_WIDTHS = {"sqrtn": 3, "attention": 0.5}
"""Widths of the linear part, as multiples of the trained part's width. What a user takes again and again
needs a high rank, or items of others displace it. Where everything is taken once, a high rank lists the
history itself.
"""
_LAYERS, _HEADS, _DROPOUT = 2, 2, 0.2
"""`attention`: a small encoder, as histories are short and days are few (SASRec has as many)."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """An embedding table.

    Attributes:
      name: of its feature or time column.
      tokens: [V] string, the vocabulary in row order; empty for hashed features.
      shared: number of rows that several values share: rows for values outside the vocabulary, or hash
        buckets.
      hashed: whether all values are hashed.
      dimension: width of a row.
      fitted: whether it is fitted before training. Training does not change it.
    """

    name: str
    tokens: pa.Array
    shared: int
    hashed: bool
    dimension: int
    fitted: bool = False

    @property
    def rows(self) -> int:
        """Number of rows, including the one for missing values."""
        return 1 + len(self.tokens) + self.shared

    @property
    def first_shared(self) -> int:
        """Number of the first shared row."""
        return 1 + len(self.tokens)

    @cached_property
    def keys(self) -> pa.Array:
        """Keys in row order, [rows] string."""
        prefix = "bucket" if self.hashed else "oov"
        missing = pa.array([_MISSING])
        tokens = pc.binary_join_element_wise("=", self.tokens.cast(pa.string()), "")
        shared = pa.array([f"{prefix}:{i}" for i in range(self.shared)], pa.string())
        return pa.concat_arrays([missing, tokens, shared])


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The encoder of a history that is read as a sequence (model/towers/list_encoders.py).

    Attributes:
      width: W, width of the items' embedding.
      length: number of positions. It reads at most this many items, the newest ones.
      layers: number of blocks of attention and feed-forward.
      heads: heads of attention, which divide the width.
      dropout: share of values dropped in training.
    """

    width: int
    length: int
    layers: int
    heads: int
    dropout: float


@dataclass(frozen=True, kw_only=True)
class FeatureColumn:
    """One transformed column, as a tower reads it.

    Attributes:
      name: its name in the transform graph.
      feature: its feature's name in the pipeline file.
      kind: that feature's kind.
      form: `id` [B] and `ids` [B, L] are looked up, and lists pooled; `number` [B] and `vector`
        [B, W] enter as they are.
      width: number of inputs of the first layer from this column.
      table: the embedding table of an `id` or `ids`; else empty.
      dropout: whether training replaces a share of its ids by shared rows (id dropout).
      context: whether training removes it from a share of the queries (context dropout).
      skip: whether it is also added to the output of the layers (skip connection). Its width is then that
        of the towers' vectors.
      root: whether the sum of a list is divided by the root of its length, instead of its length.
      attention: the encoder of a list that is read as a sequence; else None.
    """

    name: str
    feature: str
    kind: str
    form: Form
    width: int
    table: str = ""
    dropout: bool = False
    context: bool = False
    skip: bool = False
    root: bool = False
    attention: Attention | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Both towers.

    Attributes:
      tables: embedding tables, by name.
      columns: the columns of each tower, `query` and `item`, in the order of the pipeline file.
      layers: widths of the layers by side; the last width is that of the vectors.
      auxiliary: whether there is a head that learns labels from the vectors
        (model/towers/auxiliary_head.py).
      linear: name of the items' table for the linear part (model/towers/linear_part.py); empty without
        that part.
    """

    tables: Mapping[str, TableSpec]
    columns: Mapping[str, Sequence[FeatureColumn]]
    layers: Mapping[str, Sequence[int]]
    auxiliary: bool = False
    linear: str = ""

    @property
    def histories(self) -> list[str]:
        """Names of the columns with a user's history."""
        return [column.name for column in self.columns["query"] if column.kind == "history"]

    @property
    def lists(self) -> list[str]:
        """Names of the list columns that are summed or averaged."""
        return [
            column.name
            for side in SIDES
            for column in self.columns[side]
            if column.form == "ids" and not column.attention
        ]


def design(
    pipeline: Pipeline,
    vocabularies: Mapping[str, pa.Array],
    widths: Mapping[str, int] | None = None,
) -> Architecture:
    """Designs both towers.

    Args:
      pipeline: declares the features and widths.
      vocabularies: tokens by feature, in the order of the transform graph, for the features with a
        vocabulary.
      widths: widths of the parent's tables by name. These widths are kept: new widths would follow the
        size of the growing vocabulary, but a warm start needs equal shapes.
    """
    tables: dict[str, TableSpec] = {}
    columns: dict[str, list[FeatureColumn]] = {side: [] for side in SIDES}
    for name, feature in pipeline.features.items():
        for spec in _tables(pipeline, name, feature, vocabularies, widths or {}):
            tables[spec.name] = spec
    # Columns come after all tables, because a history reads the table of items, which may be declared later.
    for name, feature in pipeline.features.items():
        columns[feature.tower] += _columns(pipeline, name, feature, tables)
    train = pipeline.train
    linear = ""
    width = _LINEAR_WIDTHS.get(train.history.pooling)
    if width and pipeline.of_kind(HistoryFeature) and not train.auxiliary.weight:
        items = tables[str(pipeline.item_id)]
        linear = items.name + LINEAR
        rank = max(1, int(width * train.dimension) - 1)
        tables[linear] = replace(items, name=linear, dimension=rank, fitted=True)
    return Architecture(
        tables=tables,
        columns=columns,
        layers=dict.fromkeys(SIDES, (*train.layers, train.dimension)),
        auxiliary=bool(train.auxiliary.weight),
        linear=linear,
    )


def _tables(
    pipeline: Pipeline,
    name: str,
    feature: Feature,
    vocabularies: Mapping[str, pa.Array],
    widths: Mapping[str, int],
) -> list[TableSpec]:
    """The tables of a feature. A history has none of its own."""
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
    width = pipeline.train.dimension
    if not isinstance(feature, IdFeature):
        # 4 times the fourth root of the rows is a usual rule of thumb. A width above that of the towers'
        # vectors has no use.
        width = widths.get(name, min(width, round(4 * (len(tokens) + shared) ** 0.25)))
    return [TableSpec(name=name, tokens=tokens, shared=shared, hashed=is_text, dimension=width)]


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
    # A history shares the table of items, which a check of the pipeline file guarantees. Every other column
    # has its own table.
    shared = str(pipeline.item_id) if isinstance(feature, HistoryFeature) else None
    return [
        _looked_up(pipeline, column, name, feature, tables[shared or column])
        for column in feature.columns(name)
    ]


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
            f"With train.history.pooling = 'attention', train.dimension must be even, because"
            f" {_HEADS} heads share it; found {table.dimension}. Set an even number."
        )
    return Attention(
        width=table.dimension,
        length=feature.length,
        layers=_LAYERS,
        heads=_HEADS,
        dropout=_DROPOUT,
    )
