"""What a request may hold, declared once, from the query features of the pipeline file.

    {"user": "u7", "history": ["i3", "i9"], "exclude": ["i1"], "device": "phone", "when_hour": 20,
    "when_weekday": 4,
     "allow": {"category": ["shoes", "bags"]}, "deny": {"brand": "acme"}}

Every key may be left out, or null. `user` is also the value of the user's id feature, `history`
(oldest first) that of the history feature; serving/version/filters.py says what `allow` and `deny`
hold; all others are features by their names. docs/requests.md explains them.

From the keys follow the pydantic type of a query, which checks HTTP bodies and JSON lines and
writes the OpenAPI document; what columns of JSON lines are held to; and the inspector's form. What
that type cannot say is said by `RequestModel` beside it: two names of one thing have one value,
filters name the pipeline's attributes, and a null is the same as no key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from serving.requests import value_types
from serving.requests.value_types import (
    ITEM_IDS,
    NUMBER,
    TEXT,
    ValueType,
    WrongValue,
    typed_dict,
)
from serving.version.filters import Filter, UnknownAttribute, condition
from twinspire_core.config.feature_kinds import (
    TIME_PARTS,
    CategoriesFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    NumberFeature,
    TimeFeature,
    TimePart,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError, did_you_mean, nearest_names, shorten

# Columns of requests besides query features.
USER = "_user"
SEEN = "_seen"
EXCLUDE = "_exclude"
ALLOW = "_allow"
DENY = "_deny"


def filter_of(query: Mapping[str, Any]) -> Filter:
    """What a query lets through; equal filters are equal.

    Args:
      query: values by column, of `RequestModel.parse`.
    """
    return Filter(query.get(ALLOW), query.get(DENY))


class Refused(UsageError):
    """A request that cannot be answered as it is.

    Attributes:
      row: its place among the others, from 0.
      kind: `unknown_key`, `wrong_type`, `out_of_range` or `given_twice`.
      key: the key that it is about; None if it is about the whole request.
      near: the known key that looks most like an unknown one.
    """

    def __init__(
        self,
        row: int,
        reason: str,
        kind: str = "wrong_type",
        key: str | None = None,
        near: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.row = row
        self.kind = kind
        self.key = key
        self.near = near


@dataclass(frozen=True, slots=True)
class RequestField:
    """A key of requests.

    Attributes:
      key: as it is written.
      column: the column of rows that holds it; two names of one thing have the same.
      value: what its values may be.
      description: for the OpenAPI document.
      sample: a value, for examples.
    """

    key: str
    column: str
    value: ValueType
    description: str
    sample: Any = "…"


class RequestModel:
    """What the requests to a pipeline's versions may hold.

    Attributes:
      fields: by key.
      features: those of query features but the user's id and the history, in the pipeline file's
        order.
      attributes: that filters may name.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.attributes = pipeline.corpus.attributes
        of_features = [
            field
            for name, feature in pipeline.tower("query").items()
            for field in _fields_of_feature(name, feature)
        ]
        self.features = [field for field in of_features if field.column == field.key]
        self._others = list(_other_fields(self.attributes))
        # The others come last, so that their names mean the same in every pipeline.
        self.fields = {field.key: field for field in (*of_features, *self._others)}

    @cached_property
    def query_type(self) -> Any:
        """A query, for pydantic.

        It is a dict with types, since features may have names that a class has methods of, such as
        `copy`.
        """
        fields = {field.key: field for field in self._others} | self.fields
        if not self.attributes:
            del fields["allow"], fields["deny"]
        members = {
            key: Annotated[field.value.annotation | None, Field(description=field.description)]
            for key, field in fields.items()
        }
        about = (
            "Whom to recommend to, and when. What a query says wins over what the version knows."
        )
        config = ConfigDict(extra="forbid", json_schema_extra={"description": about})
        return typed_dict("Query", members, config, total=False)

    @cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        return TypeAdapter(self.query_type)

    def parse(self, request: Any, row: int = 0) -> dict[str, Any]:
        """Checks one request.

        Args:
          request: a JSON object.
          row: its place among others, for the error.

        Returns: values by column; what is left out, or null, is not there.

        Raises:
          Refused: it has an unknown key, or a value of the wrong type.
        """
        try:
            return self.by_column(self._adapter.validate_python(request))
        except (ValidationError, ValueError, Refused):
            # Key by key, since the first one that is wrong is told, and pydantic has another order.
            return self._parse_by_key(request, row)

    def by_column(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Values by column of what pydantic has checked by `query_type`.

        Raises:
          ValueError or Refused: it breaks a rule that this type cannot say; `parse` says which.
        """
        columns: dict[str, Any] = {}
        for key, value in query.items():
            if value is not None:
                self._add(columns, self.fields[key], value, 0)
        return columns

    def _parse_by_key(self, request: Any, row: int) -> dict[str, Any]:
        if not isinstance(request, dict):
            raise Refused(row, f"A request is a JSON object, found {shorten(request)}")
        columns: dict[str, Any] = {}
        for key, value in request.items():
            if value is None:
                continue
            field = self.fields.get(key)
            if field is None:
                raise self._unknown(row, key)
            try:
                self._add(columns, field, field.value.check(value), row)
            except UnknownAttribute as e:
                raise Refused(row, f"{key} {e}", "unknown_key", f"{key}.{e.name}", e.near) from e
            except WrongValue as e:
                raise Refused(row, f"{key} {e}", e.kind, key) from e
            except ValueError as e:
                raise Refused(row, f"{key} {e}", key=key) from e
        return columns

    def _add(self, columns: dict[str, Any], field: RequestField, value: Any, row: int) -> None:
        if field.column in (ALLOW, DENY):
            # Written in one way, so that queries with equal filters are searched together.
            value = condition(self.attributes, value)
        if columns.setdefault(field.column, value) != value:
            reason = f"{field.key} is given twice, under two names, with two values"
            raise Refused(row, reason, "given_twice", field.key)

    def _unknown(self, row: int, key: str) -> Refused:
        near = nearest_names(key, self.fields)
        hint = did_you_mean(key, self.fields) or f"known: {', '.join(self.fields)}"
        reason = f"{shorten(key)} is no feature of the query tower; {hint}"
        return Refused(row, reason, "unknown_key", key, near[0] if near else None)

    def example(self, user: str | None = None) -> dict[str, Any]:
        """A request that shows all keys."""
        features = {field.key: field.sample for field in self.features}
        return {"user": user or "u1", "history": ["item1", "item2"]} | features


def _other_fields(attributes: tuple[str, ...]) -> Iterator[RequestField]:
    """What every pipeline's requests may hold."""
    about = "The user's id. Left out: nobody in particular."
    yield RequestField("user", USER, value_types.USER_ID, about)
    about = "Item ids, **oldest first**; give all there is. Left out: what the version knows."
    yield RequestField("history", SEEN, ITEM_IDS, about)
    yield RequestField("exclude", EXCLUDE, ITEM_IDS, "Item ids that must not come back.")
    filters = value_types.filters(attributes)
    about = "Of every attribute named, an item that is listed has {} of the values."
    yield RequestField("allow", ALLOW, filters, about.format("one"))
    yield RequestField("deny", DENY, filters, about.format("none"))


def _fields_of_feature(name: str, feature: Feature) -> list[RequestField]:
    about = f"Query feature of kind `{feature.kind}`."
    match feature:
        case IdFeature():
            return [RequestField(name, USER, value_types.USER_ID, "Another name for `user`.")]
        case HistoryFeature():
            return [RequestField(name, SEEN, ITEM_IDS, "Another name for `history`.")]
        case TimeFeature():
            by_column = feature.parts_by_column(name).items()
            return [_field_of_time(column, part) for column, part in by_column]
        case NumberFeature():
            return [RequestField(name, name, NUMBER, about, 1.0)]
        case VectorFeature():
            return [RequestField(name, name, value_types.vector(feature.size), about, [0.1])]
        case CategoriesFeature():
            value = value_types.categories(feature.separator)
            return [RequestField(name, name, value, about, ["…"])]
        case _:
            return [RequestField(name, name, TEXT, about)]


def _field_of_time(name: str, part: TimePart) -> RequestField:
    most = TIME_PARTS[part] - 1
    value = value_types.whole_number(0, most, hint=f"0 to {most}; now, if empty")
    said = {"hour": "Hour", "weekday": "Weekday, 0 is Monday"}[part]
    return RequestField(
        name, name, value, f"{said}, in the pipeline's time zone. Left out: now.", 0
    )
