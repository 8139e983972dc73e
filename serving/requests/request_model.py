"""The content of a request, declared once: the keys of a query, which follow from the query features of the
pipeline file, and the options of its list (`ListRequest`).

    {"user": "u7", "history": ["i3", "i9"], "exclude": ["i1"], "device": "phone", "when_hour": 20,
     "when_weekday": 4, "allow": {"category": ["shoes", "bags"]}, "deny": {"brand": "acme"}}

Every key of a query may be left out, or null. `user` is also the value of the user's id feature, and
`history` (oldest first) that of the history feature; serving/version/filters.py says what `allow` and
`deny` hold; all others are features by their names. docs/requests.md explains them to users.

One pydantic type follows from the keys. It checks HTTP bodies and lines of files, and writes the OpenAPI
document; the inspector's form follows from the keys too. `RequestModel` adds two rules that a type cannot
express: two names of one column have one value, and null means left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from serving.requests import json_values
from serving.requests.json_values import (
    FLAG,
    ITEM_IDS,
    NUMBER,
    SHARE,
    TEXT,
    USER_ID,
    Refused,
    ValueType,
    typed_dict,
    whole_number,
)
from serving.version.filters import NO_FILTER, Filter
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
from twinspire_core.config.source_registry import answering
from twinspire_core.errors import did_you_mean, nearest_names, shorten

# Columns of requests besides query features.
USER = "_user"
SEEN = "_seen"
EXCLUDE = "_exclude"
ALLOW = "_allow"
DENY = "_deny"

EXPLAINED = 100
"""Most items of one HTTP request that are explained: each takes almost a millisecond."""
_LARGEST = 2**31 - 1
_ONE_SOURCE = f"must be one of {', '.join(answering())}"


class Option(NamedTuple):
    """A key of HTTP bodies that says how lists are made.

    Attributes:
      description: text for the OpenAPI document.
    """

    value: ValueType
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """How lists are made. Queries whose list requests are equal are answered together.

    Attributes:
      source: one of `source_registry.answering`; None leaves the choice to the version.
      exclude_seen: None leaves it to the version.
      new_share: None leaves it to the pipeline file.
      filter: items that all lists may hold; each query may narrow it further.
      vectors: the query vectors instead of lists, which `/v1/encode` asks for.
    """

    k: Annotated[int, Option(whole_number(1, _LARGEST), "Items of a list.")] = 10
    source: Annotated[
        str | None,
        Option(
            ValueType(
                # The user's own sources are loaded before this module, so they are in the list.
                annotation=Literal[*answering()],
                expected=_ONE_SOURCE,
                in_range=_ONE_SOURCE,
            ),
            "Where items come from. Default: the ranker if the gate lets it serve, else the fixed"
            " order. If the two-tower is the only source, unknown users get recently popular items.",
        ),
    ] = None
    exclude_seen: Annotated[
        bool | None,
        Option(
            FLAG,
            "Leave out items of the query's history and of the user's stored history. Default: the"
            " version's `serving.exclude_seen`, which `/v1/version` shows.",
        ),
    ] = None
    new_share: Annotated[
        float | None,
        Option(
            SHARE,
            "At least this share of a list is new to the user, also of its first 1, 2, 3 … items,"
            " rounded down. 0 turns the rule off. Default: `lists.new_share` of the pipeline file.",
        ),
    ] = None
    rules: Annotated[
        bool,
        Option(
            FLAG,
            "Whether to apply the rules of the pipeline file (`[lists]`: caps, new_share).",
        ),
    ] = True
    display: Annotated[
        bool,
        Option(FLAG, "Also send the items' display columns, and the history."),
    ] = False
    explain: Annotated[
        bool,
        Option(
            FLAG,
            "With `ranked`: return the features that moved each item most, for at most"
            f" {EXPLAINED} items of a request.",
        ),
    ] = False
    filter: Filter = NO_FILTER
    vectors: bool = False


OPTIONS: dict[str, Option] = {
    name: option
    for name, hint in get_type_hints(ListRequest, include_extras=True).items()
    for option in get_args(hint)[1:]
    if isinstance(option, Option)
}
"""Keys of HTTP bodies besides queries."""
DEFAULTS = ListRequest()


@dataclass(frozen=True, slots=True)
class RequestField:
    """A key of a query.

    Attributes:
      key: the name in JSON.
      column: column in the table of requests. Two names of one thing share it.
      description: text for the OpenAPI document.
      sample: a value for examples.
    """

    key: str
    column: str
    value: ValueType
    description: str
    sample: Any = "…"


class RequestModel:
    """What queries to a pipeline's versions may hold.

    Attributes:
      fields: all keys of a query.
      features: the fields of query features, without the user's id and the history, in the order of
        the pipeline file.
      attributes: names that filters may use.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.attributes = pipeline.corpus.attributes
        of_features = [
            field
            for name, feature in pipeline.tower("query").items()
            for field in _fields_of_feature(name, feature)
        ]
        self.features = [field for field in of_features if field.column == field.key]
        fixed_fields = {field.key: field for field in _other_fields(self.attributes)}
        # Fixed keys win: `user` and `allow` mean the same in every pipeline, even if a feature has that name.
        # They also come first, where a person looks for them.
        self.fields = fixed_fields | {field.key: field for field in of_features} | fixed_fields

    @cached_property
    def query_type(self) -> Any:
        """A query as a type for pydantic: a dict, because features may have names that are methods of
        a class, such as `copy`.
        """
        members: dict[str, Any] = {}
        for key, field in self.fields.items():
            about = Field(description=field.description)
            # Null is left out before a query is checked; it stands here for the OpenAPI document.
            members[key] = Annotated[field.value.annotation | None, about]
            if field.column in (ALLOW, DENY) and not self.attributes:
                # Without attributes, only an empty filter is allowed.
                members[key] = Annotated[members[key], SkipJsonSchema()]  # type: ignore[type-arg]
        whole = "Whom to recommend to, and when. Values of a query replace stored values."
        config = ConfigDict(extra="forbid", json_schema_extra={"description": whole})
        return typed_dict("Query", members, config)

    @cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        return TypeAdapter(self.query_type)

    def parse(self, request: Any, row: int = 0) -> dict[str, Any]:
        """Checks a query.

        Args:
          request: a JSON object, or any other value.
          row: number of the request among those that came with it, for the error.

        Returns: values by column, without keys that are left out or null.

        Raises:
          Refused: it has an unknown key, or a value of a wrong type.
        """
        given = without_nulls(request)
        try:
            query = self._adapter.validate_python(given)
        except ValidationError as e:
            raise self.refusal(given, e.errors(), row) from e
        return self.by_column(query, row)

    def by_column(self, query: Mapping[str, Any], row: int = 0) -> dict[str, Any]:
        """Values by column of a query that pydantic has checked by `query_type`.

        Raises:
          Refused: two names of one column have different values, which a type cannot express.
        """
        columns: dict[str, Any] = {}
        for key, value in query.items():
            if columns.setdefault(self.fields[key].column, value) != value:
                reason = f"{key} is given under two names, with different values. Give it once"
                raise Refused(row, reason, "given_twice", key)
        return columns

    def refusal(
        self, request: Any, errors: Sequence[ErrorDetails], row: int = 0, depth: int = 0
    ) -> Refused:
        """Why a query is refused: the error of its first wrong key.

        Args:
          request: the query, without nulls.
          errors: pydantic's, of this query.
          depth: length of the query's own path in the path of an error.
        """
        if not isinstance(request, dict):
            return Refused(row, f"A query must be a JSON object; found {shorten(request)}")
        # Pydantic reports errors in the order of the type; people expect the order of their text.
        by_key = {error["loc"][depth]: error for error in reversed(errors)}
        key = next(key for key in request if key in by_key)
        field = self.fields.get(key)
        if field is None:
            return self._unknown(row, key)
        return field.value.refusal(key, request[key], by_key[key], row)

    def _unknown(self, row: int, key: str) -> Refused:
        near = nearest_names(key, self.fields)
        hint = did_you_mean(key, self.fields) or f"known: {', '.join(self.fields)}"
        reason = f"{shorten(key)} is not a key of a query; {hint}"
        return Refused(row, reason, "unknown_key", key, near[0] if near else None)

    def example(self, user: str | None = None) -> dict[str, Any]:
        """A query that shows all keys."""
        features = {field.key: field.sample for field in self.features}
        return {"user": user or "u1", "history": ["item1", "item2"]} | features


def without_nulls(query: Any) -> Any:
    """A query without its null keys; null means left out. Any other value is returned as it is."""
    if isinstance(query, dict) and None in query.values():
        return {key: value for key, value in query.items() if value is not None}
    return query


def filter_of(query: Mapping[str, Any]) -> Filter:
    """The filter of a query.

    Args:
      query: values by column, of `RequestModel.parse`.
    """
    return Filter(query.get(ALLOW), query.get(DENY))


def _other_fields(attributes: tuple[str, ...]) -> Iterator[RequestField]:
    """The keys that queries of every pipeline have."""
    yield RequestField("user", USER, USER_ID, "The user's id. Default: an unknown user.")
    about = "Item ids, **oldest first**. Default: the user's stored history, or none."
    yield RequestField("history", SEEN, ITEM_IDS, about)
    yield RequestField("exclude", EXCLUDE, ITEM_IDS, "Item ids that must not come back.")
    filters = json_values.filters(attributes)
    about = "By attribute: values. A listed item has {} of the values of each."
    yield RequestField("allow", ALLOW, filters, about.format("one"))
    yield RequestField("deny", DENY, filters, about.format("none"))


def _fields_of_feature(name: str, feature: Feature) -> list[RequestField]:
    about = f"Query feature of kind `{feature.kind}`."
    match feature:
        case IdFeature():
            return [RequestField(name, USER, USER_ID, "Another name for `user`.")]
        case HistoryFeature():
            return [RequestField(name, SEEN, ITEM_IDS, "Another name for `history`.")]
        case TimeFeature():
            by_column = feature.parts_by_column(name).items()
            return [_field_of_time(column, part) for column, part in by_column]
        case NumberFeature():
            return [RequestField(name, name, NUMBER, about, 1.0)]
        case VectorFeature():
            return [RequestField(name, name, json_values.vector(feature.size), about, [0.1])]
        case CategoriesFeature():
            value = json_values.texts(TEXT, feature.separator)
            return [RequestField(name, name, value, about, ["…"])]
        case _:
            return [RequestField(name, name, TEXT, about)]


def _field_of_time(name: str, part: TimePart) -> RequestField:
    most = TIME_PARTS[part] - 1
    value = whole_number(0, most, hint=f"0 to {most}; now, if empty")
    meaning = {"hour": "Hour", "weekday": "Weekday, 0 is Monday"}[part]
    about = f"{meaning}, in the pipeline's time zone. Default: now."
    return RequestField(name, name, value, about, 0)
