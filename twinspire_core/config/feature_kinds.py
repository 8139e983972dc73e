"""The kinds of feature that a pipeline file can declare, one class each.

Every stage derives its columns, graph nodes or inputs from these objects. Code without Arrow, Beam or
TensorFlow is a property of the kind; a stage that needs these has one `match` on the kind.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field

from twinspire_core.config.tables.base import BASIC, Strict

Tower = Literal["query", "item"]
Origin = Literal["events", "items", "users"]
Form = Literal["id", "ids", "number", "vector"]


class FeatureKind(Strict):
    """Base of all kinds.

    Attributes:
      tower: the tower that reads the feature.
      form: what the tower reads: one id, several ids, a number, or a vector.
      is_analysed: whether the transform graph is fitted on its values, to count a vocabulary or to
        scale a number.
    """

    # A ClassVar is not a key of the pipeline file.
    form: ClassVar[Form]
    is_analysed: ClassVar[bool] = False
    if TYPE_CHECKING:

        @property
        def tower(self) -> Tower:
            """The tower that reads the feature: a key of some kinds, constant for the others."""

    @property
    def source_table(self) -> Origin | None:
        """The table that holds the feature's column; None where the feature is computed."""
        return None

    @property
    def vector_size(self) -> int | None:
        """Numbers in each vector; None for other kinds."""
        return None

    @property
    def is_context(self) -> bool:
        """Whether a request may leave it out of the query. This holds for all features except ids, which have
        shared rows; histories, which may be empty; and the time, which is then now.
        """
        return False

    def columns(self, name: str) -> list[str]:
        """Names of the raw columns that hold the feature of this name."""
        return [name]


class _EitherTower(FeatureKind):
    tower: Tower = Field(
        description="The tower that reads the feature: `query` (user and context) or `item`.",
        json_schema_extra=BASIC,
    )


class _Column(_EitherTower):
    column: str | None = Field(
        None,
        description="Column in the logs or snapshots; the feature's own name by default.",
        json_schema_extra=BASIC,
    )
    origin: Origin | None = Field(
        None,
        alias="from",
        description=(
            "Table with the column: `events` (context of the request; query tower only), `users`,"
            " `items`. Default: `items` for the item tower, `events` for the query tower."
        ),
        json_schema_extra=BASIC,
    )

    @property
    def source_table(self) -> Origin:
        """The table that holds the feature's column."""
        if self.origin is not None:
            return self.origin
        return "items" if self.tower == "item" else "events"

    @property
    def is_context(self) -> bool:
        """Columns of a query may be left out."""
        return self.tower == "query"


class IdFeature(_EitherTower):
    """The id of the user or of the item: one vector per id, learned only from its events."""

    form: ClassVar[Form] = "id"
    is_analysed: ClassVar[bool] = True
    kind: Literal["id"]

    @property
    def source_table(self) -> Origin:
        """Ids are read from the events; `columns` names their columns."""
        return "events"


class CategoryFeature(_Column):
    """One of a set of values: brand, device, country."""

    form: ClassVar[Form] = "id"
    is_analysed: ClassVar[bool] = True
    kind: Literal["category"]


class CategoriesFeature(_Column):
    """Several values at once: tags, genres. A list column, or a string cut at `separator`."""

    form: ClassVar[Form] = "ids"
    is_analysed: ClassVar[bool] = True
    kind: Literal["categories"]
    separator: str | None = Field(
        None,
        description="The text between the values of a string column. List columns do not need it.",
    )


class NumberFeature(_Column):
    """A number, scaled to mean 0 and variance 1. A missing number counts as the mean."""

    form: ClassVar[Form] = "number"
    is_analysed: ClassVar[bool] = True
    kind: Literal["number"]
    log: bool = Field(
        False,
        description="Use log(1 + x) instead of x, for prices, lengths and other numbers with a long tail.",
    )


class TextFeature(_Column):
    """Words: lower-cased, cut into words and word pairs, hashed, averaged."""

    form: ClassVar[Form] = "ids"
    kind: Literal["text"]


class VectorFeature(_Column):
    """A precomputed embedding: a list column of `size` floats."""

    form: ClassVar[Form] = "vector"
    kind: Literal["vector"]
    size: int = Field(ge=1, description="Length of every vector.")

    @property
    def vector_size(self) -> int:
        """Numbers in each vector."""
        return self.size


class CountFeature(FeatureKind):
    """How many events the item had in the `days` days before the day of the example: log(1 + n),
    scaled.
    """

    form: ClassVar[Form] = "number"
    is_analysed: ClassVar[bool] = True
    log: ClassVar[bool] = True
    tower: ClassVar[Tower] = "item"
    kind: Literal["count"]
    days: int = Field(
        ge=1, description="Days counted, at most `window.count_days`.", json_schema_extra=BASIC
    )


class AgeFeature(FeatureKind):
    """Days since the item first appeared, log(1 + n), scaled: since its first event in
    `window.count_days`, or since a date column of the items snapshot. Without either it is missing.
    """

    form: ClassVar[Form] = "number"
    is_analysed: ClassVar[bool] = True
    log: ClassVar[bool] = True
    tower: ClassVar[Tower] = "item"
    kind: Literal["age"]
    column: str | None = Field(
        None, description="A date or timestamp column of items to count from."
    )


TimePart = Literal["hour", "weekday"]
"""Hours and weekdays are counted from 0, weekdays from Monday."""
TIME_PARTS: Mapping[TimePart, int] = {"hour": 24, "weekday": 7}
"""Number of values of each."""
OOV_BUCKETS = 64
"""Number of rows shared by values outside a vocabulary: several, to distribute new ids, but so few that each
row sees enough ids to learn.
"""
TEXT_BUCKETS = 20_000
"""Rows of the table of hashed words and word pairs: about twice the number of those that occur more than once
in a catalogue's titles.
"""


class TimeFeature(FeatureKind):
    """Hour and weekday of the request, in the pipeline's time zone."""

    form: ClassVar[Form] = "id"
    tower: ClassVar[Tower] = "query"
    kind: Literal["time"]

    def columns(self, name: str) -> list[str]:
        """Names of the columns of its parts."""
        return list(self.parts_by_column(name))

    def parts_by_column(self, name: str) -> dict[str, TimePart]:
        """The part that each column holds."""
        return {f"{name}_{part}": part for part in TIME_PARTS}

    def values(self, name: str) -> dict[str, int]:
        """How many values each column has, counted from 0."""
        return {column: TIME_PARTS[part] for column, part in self.parts_by_column(name).items()}


class HistoryFeature(FeatureKind):
    """The user's last items before the request. It shares the item id's embedding."""

    form: ClassVar[Form] = "ids"
    tower: ClassVar[Tower] = "query"
    kind: Literal["history"]
    length: int = Field(
        20, ge=1, description="How many of the newest items are kept.", json_schema_extra=BASIC
    )
    types: tuple[str, ...] = Field(
        (), description="Event types that are included. Default: the positives."
    )


# To add a kind, write a class and add it here. The discriminator makes pydantic report the broken rules of
# one kind, not of all.
Feature = Annotated[
    IdFeature
    | CategoryFeature
    | CategoriesFeature
    | NumberFeature
    | TextFeature
    | VectorFeature
    | CountFeature
    | AgeFeature
    | TimeFeature
    | HistoryFeature,
    Field(discriminator="kind"),
]
EmbeddedFeature = IdFeature | CategoryFeature | CategoriesFeature | TextFeature
"""Kinds with a table of embeddings of their own."""
VocabularyFeature = IdFeature | CategoryFeature | CategoriesFeature
"""Kinds with a vocabulary: each known value has its own row."""
ScaledFeature = NumberFeature | CountFeature | AgeFeature
"""Kinds that are one number, scaled. `log` says whether its logarithm is taken first."""

KINDS: dict[str, type[FeatureKind]] = {
    get_args(kind.model_fields["kind"].annotation)[0]: kind
    for kind in get_args(get_args(Feature)[0])
}
"""All kinds, by their names in the pipeline file."""
