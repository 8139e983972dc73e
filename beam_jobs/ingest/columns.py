"""Raw columns of logs and snapshots that the pipeline file names, and the feature job's names for
them.

A column is declared once, in `events`, `items` or `users` below; reading, checking and error texts
loop over these.
"""

from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from twinspire_core.config.feature_kinds import (
    AgeFeature,
    CategoriesFeature,
    Feature,
    NumberFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import LABEL

RAW = "="
"""Before the name of a raw column, since a feature may be named like the column it is read from."""
Kind = Literal[
    "key", "time", "reward", "category", "categories", "number", "vector", "instant", "words", "raw"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a raw table.

    Attributes:
      name: in the feature job.
      source: in the raw table.
      kind: what it is read as.
      use: the pipeline file's key that names it, for error texts.
      required: whether every record has a value.
      separator: cuts a string into categories.
      size: length of a vector.
      unit: of a time that is a number.
      zone: of a time that names none.
    """

    name: str
    source: str
    kind: Kind
    use: str
    required: bool = False
    separator: str | None = None
    size: int | None = None
    unit: str = "s"
    zone: ZoneInfo | None = None


def events(p: Pipeline) -> list[Column]:
    """Columns of the events: `_user`, `_item`, `_time`; `_reward`, `_label`, `_type` if declared;
    context features.
    """
    c = p.columns
    found = [
        Column(name="_user", source=c.user, kind="key", use="columns.user", required=True),
        Column(name="_item", source=c.item, kind="key", use="columns.item", required=True),
        _time("_time", c.time, "columns.time", p, required=True),
    ]
    if c.reward:
        found.append(
            Column(
                name="_reward", source=c.reward, kind="reward", use="columns.reward", required=True
            )
        )
    if c.label:
        found.append(Column(name=LABEL, source=c.label, kind="number", use="columns.label"))
    if c.event:
        found.append(Column(name="_type", source=c.event, kind="category", use="columns.event"))
    # Context features: the values of an event that are known before it.
    return found + _features(p, "events")


def users(p: Pipeline) -> list[Column]:
    """Columns of a users snapshot: `_user` and the features that come from it."""
    key = p.columns.users_key or p.columns.user
    use = "columns.users_key" if p.columns.users_key else "columns.user"
    return [
        Column(name="_user", source=key, kind="key", use=use, required=True),
        *_features(p, "users"),
    ]


def items(p: Pipeline) -> list[Column]:
    """Columns of an items snapshot: `_item`, features, columns of dates that ages count from, and
    the corpus's own.
    """
    key = p.columns.items_key or p.columns.item
    use = "columns.items_key" if p.columns.items_key else "columns.item"
    corpus = p.corpus
    return [
        Column(name="_item", source=key, kind="key", use=use, required=True),
        *_features(p, "items"),
        *(
            _time(f"_born_{n}", f.column, f"features.{n}.column", p, kind="instant")
            for n, f in p.of_kind(AgeFeature).items()
            if f.column
        ),
        *(
            Column(name=f"_display_{one}", source=one, kind="words", use="corpus.display")
            for one in corpus.display
        ),
        *(
            Column(name=f"_attribute_{one}", source=one, kind="raw", use="corpus.attributes")
            for one in corpus.attributes
        ),
        *(
            Column(name=f"_filter_{one}", source=one, kind="raw", use="corpus.filter")
            for one in corpus.filter
        ),
    ]


def _features(p: Pipeline, table: str) -> list[Column]:
    return [
        _feature(name, p.features[name], source) for name, source in p.columns_of(table).items()
    ]


def _feature(name: str, feature: Feature, source: str) -> Column:
    use = f"features.{name}"
    match feature:
        case CategoriesFeature(separator=separator):
            return Column(name=name, source=source, kind="categories", use=use, separator=separator)
        case VectorFeature(size=size):
            return Column(name=name, source=source, kind="vector", use=use, size=size)
        case NumberFeature():
            return Column(name=name, source=source, kind="number", use=use)
        case _:  # a category or a text
            return Column(name=name, source=source, kind="category", use=use)


def _time(
    name: str, source: str, use: str, p: Pipeline, kind: Kind = "time", required: bool = False
) -> Column:
    unit = p.columns.time_unit
    return Column(
        name=name, source=source, kind=kind, use=use, required=required, unit=unit, zone=p.zone
    )
