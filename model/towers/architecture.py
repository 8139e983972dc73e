"""The architecture of the towers: columns, embedding tables and widths of layers, from the pipeline
file and the vocabularies.

Rows of a table are: row 0 for a missing value; then the vocabulary, in the order of the transform
graph; then the shared rows of ids outside it (`oov`). A hashed feature has row 0 and its buckets.
Every row has a key, which outlives the row's number:

    missing, =TOKEN, oov:I, bucket:I
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config.feature_kinds import (
    EmbeddedFeature,
    Feature,
    Form,
    HistoryFeature,
    IdFeature,
    TimeFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

SIDES = ("query", "item")
_MISSING = "missing"
_NO_TOKENS = pa.array([], pa.string())
_TIME_WIDTHS = (8, 4)
"""Widths of the embeddings of hours and of weekdays."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """An embedding table.

    Attributes:
      name: of the feature, or of the time column, that it belongs to.
      tokens: [V] string, the vocabulary in row order; empty for hashed features.
      shared: number of rows that several values share: of values outside the vocabulary, or hash
        buckets.
      hashed: whether all values are hashed.
      dimension: width of a row.
      setting: key of the pipeline file that decides `shared`.
    """

    name: str
    tokens: pa.Array
    shared: int
    hashed: bool
    dimension: int
    setting: str

    @property
    def rows(self) -> int:
        """Number of rows, the one for missing values included."""
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
    """The encoder of a history that is read as a sequence (model/towers/history_encoder.py).

    Attributes:
      width: W, width of the items' embedding.
      length: number of positions: the most items that it reads, the newest.
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
      name: of the column.
      feature: the feature that it comes from, as the pipeline file names it.
      kind: that feature's kind.
      form: `id` [B] and `ids` [B, L] are looked up, and lists pooled; `number` [B] and `vector`
        [B, W] enter as they are.
      width: how many numbers it gives the first layer.
      table: the embedding table of an `id` or `ids`; else empty.
      dropout: whether training replaces a share of its ids by shared rows (id dropout).
      skip: whether it is also added to what comes out of the layers. Its width is then that of the
        towers' vectors.
      root: whether the sum of a list is divided by the root of its length, instead of its length.
      half_life: of a list whose newest entries weigh more, the entries after which a weight has
        halved; 0 if all weigh alike.
      attention: the encoder of a list that is read as a sequence; else None.
    """

    name: str
    feature: str
    kind: str
    form: Form
    width: int
    table: str = ""
    dropout: bool = False
    skip: bool = False
    root: bool = False
    half_life: float = 0.0
    attention: Attention | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Both towers.

    Attributes:
      tables: embedding tables, by name.
      columns: by side, `query` and `item`, in the order of the pipeline file.
      layers: widths of the layers by side; the last width is that of the vectors.
      auxiliary: the loss of a head that learns labels from the vectors
        (model/towers/auxiliary_head.py); None for no head.
    """

    tables: Mapping[str, TableSpec]
    columns: Mapping[str, Sequence[FeatureColumn]]
    layers: Mapping[str, Sequence[int]]
    auxiliary: Literal["squared", "logistic"] | None = None

    @property
    def lists(self) -> list[str]:
        """Names of the columns of lists that are summed or averaged."""
        names = []
        for side in SIDES:
            for column in self.columns[side]:
                if column.form == "ids" and not column.attention:
                    names.append(column.name)
        return names


def design(
    pipeline: Pipeline,
    vocabularies: Mapping[str, pa.Array],
    widths: Mapping[str, int] | None = None,
) -> Architecture:
    """Designs both towers.

    Args:
      pipeline: its features and widths.
      vocabularies: tokens by feature, in the order of the transform graph, for the features that
        keep a vocabulary.
      widths: widths of the parent's tables by name. Where the pipeline file declares no width, the
        parent's is kept: the default follows the size of the vocabulary, which grows from day to
        day, and a warm start needs equal shapes.
    """
    tables: dict[str, TableSpec] = {}
    columns: dict[str, list[FeatureColumn]] = {side: [] for side in SIDES}
    for name, feature in pipeline.features.items():
        for spec in _tables(pipeline, name, feature, vocabularies, widths or {}):
            tables[spec.name] = spec
    # After all tables: a history reads the table of items, which may be declared behind it.
    for name, feature in pipeline.features.items():
        columns[feature.tower] += _columns(pipeline, name, feature, tables)
    dimension = pipeline.train.dimension
    layers = {
        "query": (*pipeline.train.query_layers, dimension),
        "item": (*pipeline.train.item_layers, dimension),
    }
    auxiliary = pipeline.train.auxiliary
    return Architecture(
        tables=tables,
        columns=columns,
        layers=layers,
        auxiliary=auxiliary.loss if auxiliary.weight else None,
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
        return _time_tables(name, feature)
    if not isinstance(feature, EmbeddedFeature):
        return []
    if feature.hash_buckets:
        tokens = _NO_TOKENS
        shared = feature.hash_buckets
        setting = f"features.{name}.hash_buckets"
    else:
        tokens = vocabularies[name]
        shared = pipeline.vocabulary.oov_buckets
        setting = "vocabulary.oov_buckets"
    if isinstance(feature, IdFeature):
        default_width = pipeline.train.dimension
    else:
        default_width = _usual_width(len(tokens) + shared, pipeline)
    table = TableSpec(
        name=name,
        tokens=tokens,
        shared=shared,
        hashed=bool(feature.hash_buckets),
        dimension=feature.dimension or widths.get(name, default_width),
        setting=setting,
    )
    return [table]


def _time_tables(name: str, feature: TimeFeature) -> list[TableSpec]:
    """Tables of hours and of weekdays: their values are numbers from 0, as hash buckets are."""
    tables = []
    for (column, values), width in zip(feature.values(name).items(), _TIME_WIDTHS, strict=True):
        table = TableSpec(
            name=column,
            tokens=_NO_TOKENS,
            shared=values,
            hashed=True,
            dimension=width,
            setting=name,
        )
        tables.append(table)
    return tables


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
        )
        return [column]
    columns = []
    for column_name in feature.columns(name):
        table = tables[_table_name(pipeline, column_name, feature)]
        columns.append(_looked_up(pipeline, column_name, name, feature, table))
    return columns


def _table_name(pipeline: Pipeline, column: str, feature: Feature) -> str:
    """A history shares the table of items; every other column has its own."""
    if isinstance(feature, HistoryFeature):
        assert pipeline.item_id is not None  # the pipeline file was checked for it
        return pipeline.item_id
    return column


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
        dropout=isinstance(feature, IdFeature) and not table.hashed,
        # Both towers then give vectors in the space of the items' embedding.
        skip=train.skip and table.name == pipeline.item_id and table.dimension == train.dimension,
    )
    if not isinstance(feature, HistoryFeature):
        return looked_up
    match train.history.pooling:
        case "sqrtn":
            return replace(looked_up, root=True)
        case "recency":
            return replace(looked_up, half_life=train.history.half_life)
        case "attention":
            return replace(looked_up, attention=_attention(pipeline, feature, table))
        case "mean":
            return looked_up


def _attention(pipeline: Pipeline, feature: HistoryFeature, table: TableSpec) -> Attention:
    history = pipeline.train.history
    if table.dimension % history.heads:
        raise UsageError(
            "Heads divide the width of the items' embedding between them; train.history.heads is"
            f" {history.heads}, features.{table.name}.dimension (by default train.dimension)"
            f" {table.dimension}: make one fit the other."
        )
    return Attention(
        width=table.dimension,
        length=feature.length,
        layers=history.layers,
        heads=history.heads,
        dropout=history.dropout,
    )
