"""The kinds of feature a pipeline file can declare, one class each.

Every stage derives what it needs from these objects: the feature job's columns, the transform
graph, the towers' inputs and the serving signature.
"""

from typing import Annotated, Literal

from pydantic import Field

from twinspire_core.config.tables.base import Strict

Tower = Literal["query", "item"]
Origin = Literal["events", "items", "users"]


class _Feature(Strict):
    tower: Tower = Field(
        description="The tower that reads the feature: `query` (user and context) or `item`."
    )


class _Column(_Feature):
    column: str | None = Field(
        None, description="Column in the logs or snapshots; the feature's own name by default."
    )
    origin: Origin | None = Field(
        None,
        alias="from",
        description=(
            "Where the column lies: `events` (context of the request; query tower only), `users`,"
            " `items`. Default: `items` for the item tower, `events` for the query tower."
        ),
    )


class _Embedded(_Column):
    dimension: int | None = Field(
        None, ge=1, description="Width of the embedding; by default chosen by its size."
    )


class IdFeature(_Embedded):
    """The user's or the item's own id: one vector per id, learned from its events alone."""

    kind: Literal["id"]
    hash_buckets: int | None = Field(
        None, ge=2, description="Hash ids into so many rows instead of keeping a vocabulary."
    )


class CategoryFeature(_Embedded):
    """One of a set of values: brand, device, country."""

    kind: Literal["category"]
    hash_buckets: int | None = Field(
        None, ge=2, description="Hash values instead of keeping a vocabulary."
    )
    max_size: int = Field(
        10_000, ge=1, description="The most frequent values that get a row of their own."
    )


class CategoriesFeature(_Embedded):
    """Several values at once: tags, genres. A list column, or a string cut at `separator`."""

    kind: Literal["categories"]
    separator: str | None = Field(
        None, description="Cut a string column here; not needed for list columns."
    )
    max_size: int = Field(
        10_000, ge=1, description="The most frequent values that get a row of their own."
    )


class NumberFeature(_Column):
    """A number, scaled to mean 0 and variance 1; missing is the mean."""

    kind: Literal["number"]
    log: bool = Field(
        False, description="Take log(1 + x) first: for prices, lengths, anything with a long tail."
    )


class TextFeature(_Embedded):
    """Words: lower-cased, cut into words and word pairs, hashed, averaged."""

    kind: Literal["text"]
    hash_buckets: int = Field(20_000, ge=2, description="Rows of the table of hashed word n-grams.")
    ngrams: int = Field(
        2, ge=1, le=3, description="The longest run of words that counts as one term."
    )


class VectorFeature(_Column):
    """A ready-made embedding: a list column of floats, all of `size`."""

    kind: Literal["vector"]
    size: int = Field(ge=1, description="Length of every vector.")


class CountFeature(_Feature):
    """Events of the item in the `days` days before the day of the example, log(1 + n), scaled."""

    kind: Literal["count"]
    tower: Literal["item"] = Field("item", description="Always `item`.")
    days: int = Field(ge=1, description="Days counted, at most `window.count_days`.")


class AgeFeature(_Feature):
    """Days since the item first appeared, log(1 + n), scaled: since its first event in
    `window.count_days`, or since a date column of the items snapshot. Without either it is missing.
    """

    kind: Literal["age"]
    tower: Literal["item"] = Field("item", description="Always `item`.")
    column: str | None = Field(
        None, description="A date or timestamp column of items to count from."
    )


class TimeFeature(_Feature):
    """Hour and weekday of the request, in the pipeline's time zone."""

    kind: Literal["time"]
    tower: Literal["query"] = Field("query", description="Always `query`.")


class HistoryFeature(_Feature):
    """The user's last items before the request. It shares the item id's embedding."""

    kind: Literal["history"]
    tower: Literal["query"] = Field("query", description="Always `query`.")
    length: int = Field(20, ge=1, description="The most items kept, newest last.")
    types: tuple[str, ...] = Field(
        (), description="Event types that enter; by default the positives."
    )


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

KINDS: dict[str, type[_Feature]] = {
    "id": IdFeature,
    "category": CategoryFeature,
    "categories": CategoriesFeature,
    "number": NumberFeature,
    "text": TextFeature,
    "vector": VectorFeature,
    "count": CountFeature,
    "age": AgeFeature,
    "time": TimeFeature,
    "history": HistoryFeature,
}
