"""Bodies of requests for lists: the types that check and describe them, and what is said of wrong ones.

What is wrong with a body is said before it waits with others in a batch. Lengths are checked first, so
that a wrong body costs no more than a right one.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from serving.http.body_reading import check_distinct, read_object
from serving.http.http_errors import Problem
from serving.http.server_settings import Settings
from serving.requests.json_values import ONE_ITEM_ID, Refused, typed_dict, whole_number
from serving.requests.request_model import (
    DEFAULTS,
    EXPLAINED,
    OPTIONS,
    ListRequest,
    Option,
    RequestModel,
    filter_of,
)
from twinspire_core.config import source_names
from twinspire_core.config.source_names import answering
from twinspire_core.errors import did_you_mean, nearest_names, shorten, with_full_stop

REMOVED = {"explore": "leave it out: no place of a list is kept for items without events"}
"""Keys that bodies had in earlier releases, and what to do instead."""
_OBJECTS = 20  # objects and lists that a query has on average, at most
_FILTERS = ("allow", "deny")
_QUERIES = ("query", "queries")
_EITHER = (
    'A body has either "query", one object, or "queries", a list of them; {} is enough of a query.'
)


class RecommendRequest(NamedTuple):
    """A request to `/v1/recommend`.

    Attributes:
      queries: at least one, as `RequestModel.parse` makes them.
      options: how all of the lists are made.
      single: whether the body had `query`, and not a list of `queries`.
    """

    queries: list[dict[str, Any]]
    options: ListRequest
    single: bool


class SimilarRequest(NamedTuple):
    """A request to `/v1/similar`. Of its options, `k`, `filter` and `display` count."""

    item: str
    options: ListRequest = DEFAULTS


class BodyParser:
    """Makes requests of bodies. Its types check them, and describe them in the OpenAPI document.

    Attributes:
      one_query: type of a body of `/v1/recommend` with one query.
      several_queries: type of one with a list of queries.
      similar_body: type of a body of `/v1/similar`.
    """

    def __init__(self, requests: RequestModel, settings: Settings) -> None:
        self._requests = requests
        self._settings = settings
        self._most_objects = _OBJECTS * (1000 + settings.max_queries)
        # A deployment may allow less than the type of all requests.
        k = OPTIONS["k"]._replace(value=whole_number(1, settings.max_k))
        self._options = OPTIONS | {"k": k}
        self._keys: dict[str, Option | None] = {**dict.fromkeys(_QUERIES), **self._options}
        query: Any = Required[requests.query_type]
        length = Field(min_length=1, max_length=settings.max_queries, fail_fast=True)
        queries: Any = Required[Annotated[list[requests.query_type], length]]  # type: ignore[name-defined]
        options = _optional(self._options)
        self.one_query = _body("One", {"query": query, **options})
        self.several_queries = _body("Several", {"queries": queries, **options})
        fields = [requests.fields[key] for key in _FILTERS]
        display = Option(OPTIONS["display"].value, "Send display columns along.")
        self._keys_of_similar = {
            "item": Option(ONE_ITEM_ID, "An item of the live version's catalogue."),
            "k": k,
            **{field.key: Option(field.value, field.description) for field in fields},
            "display": display,
        }
        about = Field(description=self._keys_of_similar["item"].description)
        item: Any = Required[Annotated[ONE_ITEM_ID.annotation, about]]
        keys = _optional(self._keys_of_similar) | {"item": item}
        self.similar_body = _body("The body", keys)
        self._one = TypeAdapter(self.one_query)
        self._several = TypeAdapter(self.several_queries)
        self._similar = TypeAdapter(self.similar_body)

    def recommend(self, content: bytes) -> RecommendRequest:
        """The request in the bytes of a body of `/v1/recommend`.

        Raises:
          Problem: something is wrong with it. NaN and numbers beyond a double are no JSON.
        """
        body = read_object(content, self._most_objects)
        request = self.recommend_from(body)
        check_distinct(content, [body, *_queries(body)])
        return request

    def similar(self, content: bytes) -> SimilarRequest:
        """The request in the bytes of a body of `/v1/similar`.

        Raises:
          Problem: something is wrong with it.
        """
        body = read_object(content, self._most_objects)
        request = self.similar_from(body)
        check_distinct(content, [body])
        return request

    def recommend_from(self, body: Mapping[str, Any]) -> RecommendRequest:
        """The request in the object that a body of `/v1/recommend` holds.

        Raises:
          Problem: something is wrong with it.
        """
        self._check_sizes(body)
        given = _without_nulls(body, self._keys)
        single = "queries" not in given
        body_type = self._one if single else self._several
        checked = self._check(body_type, given, self._keys)
        options = {key: value for key, value in checked.items() if key in self._options}
        request = ListRequest(**options)
        if single:
            self._check_items(1, request)
            return RecommendRequest(
                [self._columns(checked["query"], given["query"], "query")], request, single=True
            )
        self._check_items(len(given["queries"]), request)
        pairs = zip(checked["queries"], given["queries"], strict=True)
        queries = [
            self._columns(query, raw, f"queries[{n}]") for n, (query, raw) in enumerate(pairs)
        ]
        return RecommendRequest(queries, request, single=False)

    def similar_from(self, body: Mapping[str, Any]) -> SimilarRequest:
        """The request in the object that a body of `/v1/similar` holds.

        Raises:
          Problem: something is wrong with it.
        """
        self._check_sizes(body)
        given = _without_nulls(body, self._keys_of_similar)
        checked = self._check(self._similar, given, self._keys_of_similar)
        # They are checked as those of a query, so that the same is said of wrong ones.
        filters = {key: checked.pop(key) for key in _FILTERS if key in checked}
        filter_ = filter_of(self._columns(filters, filters, ""))
        return SimilarRequest(checked.pop("item"), ListRequest(filter=filter_, **checked))

    def _check(
        self,
        body_type: TypeAdapter[dict[str, Any]],
        body: dict[str, Any],
        known: Mapping[str, Option | None],
    ) -> dict[str, Any]:
        """The values of a body, as its type makes them.

        Args:
          known: the keys that a body may have.
        """
        try:
            return body_type.validate_python(body)
        except ValidationError as e:
            errors: dict[str, ErrorDetails] = {}
            for error in e.errors():
                errors.setdefault(str(error["loc"][0]), error)
        # The first fault that helps: unknown keys first, and queries last; otherwise in the order of the type.
        key = min(errors, key=lambda key: (key in known, key in _QUERIES))
        option = known.get(key)
        if key in _QUERIES:
            raise self._wrong_queries(body)
        if option is None:
            raise self._unknown(key, known)
        if errors[key]["type"] == "missing":
            raise Problem("missing", "A body has the id of an item.", where=key)
        if key == "source":
            raise _wrong_source(body[key])
        wrong = option.value.explain(body[key], errors[key])
        raise Problem(wrong.kind, with_full_stop(f"{key} {wrong}"), where=key)

    def _wrong_queries(self, body: Mapping[str, Any]) -> Problem:
        """What is wrong with the queries of a body that its type does not allow."""
        if ("query" in body) == ("queries" in body):
            kind = "given_twice" if "query" in body else "missing"
            return Problem(kind, _EITHER, where="query")
        queries = body.get("queries", [])
        if not isinstance(queries, list):
            message = f"queries is a list of objects, found {shorten(queries)}."
            return Problem("wrong_type", message, where="queries")
        for n, query in enumerate(queries):
            self._parse(query, f"queries[{n}]")
        self._parse(body.get("query"), "query")
        raise AssertionError("its type does not allow it")

    def _columns(self, query: Mapping[str, Any], raw: Any, where: str) -> dict[str, Any]:
        """The values by column of a query that its type allows."""
        try:
            return self._requests.by_column(query)
        except (ValueError, Refused):
            return self._parse(raw, where)

    def _parse(self, query: Any, where: str) -> dict[str, Any]:
        try:
            return self._requests.parse(query)
        except Refused as e:
            raise refused(e, where) from e

    def _check_sizes(self, body: Mapping[str, Any]) -> None:
        """Checks the lengths of lists and objects, whatever they hold."""
        queries = body.get("queries")
        most = self._settings.max_queries
        if isinstance(queries, list) and not 1 <= len(queries) <= most:
            message = f"queries has 1 to {most} objects, found {len(queries)}."
            raise Problem("out_of_range", message, where="queries")
        self._check_size(None, body)
        for holder in (body, *_queries(body)):
            for key, value in holder.items():
                if value is not queries:  # which has a limit of its own
                    self._check_size(key, value)
                if key in _FILTERS and isinstance(value, dict):
                    for entries in value.values():
                        self._check_size(key, entries)

    def _check_size(self, key: str | None, value: Any) -> None:
        most = self._settings.max_ids
        if isinstance(value, list | dict) and len(value) > most:
            message = f"{key or 'An object'} has at most {most:,} entries, found {len(value):,}."
            raise Problem("out_of_range", message, where=key)

    def _check_items(self, queries: int, options: ListRequest) -> None:
        k = options.k
        most = self._settings.max_items
        if queries > 1 and queries * k > most:
            raise Problem(
                "out_of_range",
                f"The lists of a request have at most {most:,} items together, found {queries:,}"
                f" times {k:,}. Ask for shorter ones, or for fewer at a time.",
                where="k",
            )
        if options.explain and queries * k > EXPLAINED:
            raise Problem(
                "out_of_range",
                f"At most {EXPLAINED} items of a request are explained, found {queries:,} times"
                f" {k:,}. Ask for shorter lists, or for fewer at a time.",
                where="explain",
            )

    def _unknown(self, key: str, known: Mapping[str, Option | None]) -> Problem:
        if key in REMOVED:
            return Problem("unknown_key", f"{key} was removed: {REMOVED[key]}.", where=key)
        near = nearest_names(key, known)
        hint = did_you_mean(key, known) or f"known: {', '.join(known)}"
        if "query" in known and key in self._requests.fields:
            hint = f'it belongs into "query": {{"query": {{"{key}": …}}}}'
        message = with_full_stop(f"{shorten(key)} is no option; {hint}")
        return Problem("unknown_key", message, where=key, did_you_mean=near[0] if near else None)


def _body(title: str, members: dict[str, Any]) -> Any:
    return typed_dict(title, members, ConfigDict(extra="forbid", title=title), total=False)


def _optional(options: Mapping[str, Option]) -> dict[str, Any]:
    """Types of keys that may be left out, or null."""
    return {
        key: Annotated[
            option.value.annotation | None,
            Field(
                description=option.description,
                json_schema_extra={"default": getattr(DEFAULTS, key, None)},
            ),
        ]
        for key, option in options.items()
    }


def _without_nulls(body: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """A body without keys that are null, which is the same as left out, at its top and in queries."""
    given = {key: value for key, value in body.items() if value is not None or key not in known}
    if (query := given.get("query")) is not None:
        given["query"] = _query_without_nulls(query)
    if isinstance(queries := given.get("queries"), list):
        given["queries"] = [_query_without_nulls(query) for query in queries]
    return given


def _query_without_nulls(query: Any) -> Any:
    if isinstance(query, dict) and None in query.values():
        return {key: value for key, value in query.items() if value is not None}
    return query


def _queries(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects where a body has queries, whatever they hold."""
    queries = body.get("queries")
    one_or_more = queries if isinstance(queries, list) else [body.get("query")]
    return [query for query in one_or_more if isinstance(query, dict)]


def _wrong_source(source: Any) -> Problem:
    if not isinstance(source, str):
        kind, near = "wrong_type", None
    else:
        kind, near = "out_of_range", next(iter(nearest_names(source, answering())), None)
    message = f"source is one of {', '.join(answering())}; found {shorten(source)}."
    if kind == "out_of_range" and source in source_names.REMOVED:
        near = source_names.REMOVED[source]
        message = f"source {source} was removed: write {near}."
    return Problem(kind, message, where="source", did_you_mean=near)


def refused(error: Refused, where: str) -> Problem:
    """The error answer for a refused query.

    Args:
      where: the query's key in the body; empty where the keys are the body's own.
    """
    key = ".".join(filter(None, (where, error.key)))
    return Problem(error.kind, with_full_stop(error), where=key or None, did_you_mean=error.near)
