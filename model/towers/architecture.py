"""The architecture of the towers: columns, embedding tables and widths of layers.

Rows of a table are: row 0 for a missing value; then the vocabulary, in the order of the transform
graph; then the shared rows of ids outside it (`oov`). A hashed feature has row 0 and its buckets.
Every row has a key, which outlives the row's number:

    missing, =TOKEN, oov:I, bucket:I
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config.feature_kinds import Form

SIDES = ("query", "item")
_MISSING = "missing"


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
    """

    name: str
    tokens: pa.Array
    shared: int
    hashed: bool
    dimension: int

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
      name: what the transform graph calls it.
      feature: the feature that it comes from, as the pipeline file names it.
      kind: that feature's kind.
      form: `id` [B] and `ids` [B, L] are looked up, and lists pooled; `number` [B] and `vector`
        [B, W] enter as they are.
      width: how many numbers it gives the first layer.
      table: the embedding table of an `id` or `ids`; else empty.
      dropout: whether training replaces a share of its ids by shared rows (id dropout).
      context: whether training takes it as missing in a share of the queries (context dropout).
      skip: whether it is also added to what comes out of the layers. Its width is then that of the
        towers' vectors.
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
      columns: what each tower reads, by side, `query` and `item`, in the order of the pipeline file.
      layers: widths of the layers by side; the last width is that of the vectors.
      auxiliary: whether there is a head that learns labels from the vectors
        (model/towers/auxiliary_head.py).
    """

    tables: Mapping[str, TableSpec]
    columns: Mapping[str, Sequence[FeatureColumn]]
    layers: Mapping[str, Sequence[int]]
    auxiliary: bool = False

    @property
    def lists(self) -> list[str]:
        """Names of the columns of lists that are summed or averaged."""
        return [
            column.name
            for side in SIDES
            for column in self.columns[side]
            if column.form == "ids" and not column.attention
        ]
