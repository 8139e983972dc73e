"""Request bodies, checked: what is wrong is told before it waits with others in a batch.

A body that is right is read and checked in one pass, by the models of serving/http/request_models.py.
Whatever they refuse is read again, by orjson, and looked at key by key: that decides what is wrong,
and in which words.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from serving.http.http_errors import Problem
from serving.http.request_models import (
    EXPLAINED,
    BodyField,
    Options,
    RecommendRequest,
    RequestBodies,
    SimilarRequest,
)
from serving.http.server_settings import Settings
from serving.requests.duplicate_keys import distinct, surely_distinct
from serving.requests.request_model import EXCLUDE, SEEN, Refused, RequestModel
from serving.requests.value_types import WrongValue
from twinspire_core.config.source_names import ANSWERING
from twinspire_core.messages import nearest_names, shorten, with_full_stop

_FILTERS = ("allow", "deny")
_EITHER = (
    'A body has either "query", one object, or "queries", a list of them; {} is enough of a query.'
)


class BodyParser:
    """Makes requests of bodies.

    Args:
      requests: what queries may hold.
      settings: the limits.
    """

    def __init__(self, requests: RequestModel, settings: Settings) -> None:
        self._requests = requests
        self._settings = settings
        self.bodies = RequestBodies(requests, settings)

    def recommend(self, content: bytes) -> RecommendRequest:
        """The request that a body of `/v1/recommend` is.

        Raises:
          Problem: what is wrong with it. NaN and numbers beyond a double are no JSON.
        """
        try:
            single, body, queries = self._validate(content)
            columns = [self._requests.by_column(query) for query in queries]
        except (ValidationError, ValueError, Refused):
            return self.recommend_from(read_object(content))
        members = len(body.model_fields_set) + sum(map(_count_members, queries))
        if not surely_distinct(content, members, queries):
            read_object(content)  # which says what is wrong
        options = Options(**_values(body, self.bodies.options))
        self._check_items(len(columns), options)
        self._check_ids(columns)
        return RecommendRequest(columns, options, single)

    def _validate(self, content: bytes) -> tuple[bool, BaseModel, list[dict[str, Any]]]:
        """Whether a body has one query, the body, and its queries."""
        # Some text may hold this as well: the model that does not fit refuses the body.
        if b'"queries"' in content:
            several: Any = self.bodies.several_queries.model_validate_json(content)
            return False, several, several.queries
        one: Any = self.bodies.one_query.model_validate_json(content)
        return True, one, [one.query]

    def similar(self, content: bytes) -> SimilarRequest:
        """The request that a body of `/v1/similar` is.

        Raises:
          Problem: what is wrong with it.
        """
        try:
            body = self.bodies.similar.model_validate_json(content)
            filters: dict[str, Any] = {key: getattr(body, key, None) for key in _FILTERS}
            self._requests.by_column(filters)
        except (ValidationError, ValueError, Refused):
            return self.similar_from(read_object(content))
        values = _values(body, self.bodies.similar_fields)
        members = len(body.model_fields_set) + _count_members(filters) - len(filters)
        if not surely_distinct(content, members, [values]):
            read_object(content)
        return SimilarRequest(**values, **filters)

    def recommend_from(self, body: Mapping[str, Any]) -> RecommendRequest:
        """The request that the object in a body of `/v1/recommend` is.

        Raises:
          Problem: what is wrong with it.
        """
        known = ("query", "queries", *self.bodies.options)
        for key in body:
            if key not in known:
                raise self._unknown(key, known, in_query=key in self._requests.fields)
        query = body.get("query")
        queries = body.get("queries")
        if query is None and queries is None:
            raise Problem("missing", _EITHER, where="query")
        if query is not None and queries is not None:
            raise Problem("given_twice", _EITHER, where="query")
        if queries is not None:
            self._check_list(queries)
        options = Options(**_check_values(body, self.bodies.options))
        self._check_items(1 if queries is None else len(queries), options)
        if queries is None:
            parsed = [self._query(query, 0, "query")]
        else:
            parsed = [self._query(one, n, f"queries[{n}]") for n, one in enumerate(queries)]
        self._check_ids(parsed)
        return RecommendRequest(parsed, options, single=queries is None)

    def similar_from(self, body: Mapping[str, Any]) -> SimilarRequest:
        """The request that the object in a body of `/v1/similar` is.

        Raises:
          Problem: what is wrong with it.
        """
        known = ("item", "k", *_FILTERS, "display")
        for key in body:
            if key not in known:
                raise self._unknown(key, known)
        if body.get("item") is None:
            raise Problem("missing", "A body has the id of an item.", where="item")
        _check_values(body, {"item": self.bodies.similar_fields["item"]})
        filters: dict[str, Any] = {key: body.get(key) for key in _FILTERS}
        # A query with nothing but the filters says what is wrong with them.
        self._query(filters, 0, "")
        values = _check_values(body, self.bodies.similar_fields)
        return SimilarRequest(**values, **filters)

    def _query(self, query: Any, row: int, where: str) -> dict[str, Any]:
        try:
            return self._requests.parse(query, row)
        except Refused as e:
            raise refused(e, where) from e

    def _check_list(self, queries: Any) -> None:
        if not isinstance(queries, list):
            raise Problem(
                "wrong_type",
                f"queries is a list of objects, found {shorten(queries)}.",
                where="queries",
            )
        most = self._settings.max_queries
        if not 1 <= len(queries) <= most:
            raise Problem(
                "out_of_range",
                f"queries has 1 to {most} objects, found {len(queries)}.",
                where="queries",
            )

    def _check_ids(self, parsed: Sequence[Mapping[str, Any]]) -> None:
        most = self._settings.max_ids
        for query in parsed:
            for column, key in ((SEEN, "history"), (EXCLUDE, "exclude")):
                ids = len(query.get(column) or ())
                if ids > most:
                    message = f"{key} has at most {most:,} ids, found {ids:,}."
                    raise Problem("out_of_range", message, where=key)

    def _check_items(self, queries: int, options: Options) -> None:
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

    @staticmethod
    def _unknown(key: str, known: Collection[str], *, in_query: bool = False) -> Problem:
        near = nearest_names(key, known)
        if in_query:
            hint = f'it belongs into "query": {{"query": {{"{key}": …}}}}'
        elif near:
            hint = f"did you mean {near[0]!r}?"
        else:
            hint = f"known: {', '.join(known)}"
        message = with_full_stop(f"{shorten(key)} is no option; {hint}")
        return Problem("unknown_key", message, where=key, did_you_mean=near[0] if near else None)


def refused(error: Refused, where: str) -> Problem:
    """What a client is told of a query that is refused.

    Args:
      error: why.
      where: the query's key; empty where its keys are the body's own.
    """
    place = ".".join(filter(None, (where, error.key)))
    return Problem(error.kind, with_full_stop(error), where=place or None, did_you_mean=error.near)


def read_object(content: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
      Problem: it is no JSON object, or has a key twice.
    """
    try:
        body = orjson.loads(content)
        # Orjson takes the last of keys that are the same.
        json.loads(content, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as e:
        raise Problem("bad_json", f"A body is a JSON object; this one cannot be read: {e}.") from e
    except Refused as e:
        raise refused(e, "") from e
    if not isinstance(body, dict):
        raise Problem("bad_json", f"A body is a JSON object, found {shorten(body)}.")
    return body


def _count_members(query: Mapping[str, Any]) -> int:
    """Members of a query and of the filters in it."""
    return len(query) + sum(len(query.get(key) or ()) for key in _FILTERS)


def _values(body: BaseModel, fields: Mapping[str, BodyField]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, field in fields.items():
        value = getattr(body, key)
        values[key] = field.default if value is None else value
    return values


def _check_values(body: Mapping[str, Any], fields: Mapping[str, BodyField]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, field in fields.items():
        value = body.get(key)
        if value is None:
            values[key] = field.default
            continue
        try:
            values[key] = field.value.check(value)
        except WrongValue as e:
            if key == "source":
                raise _wrong_source(value) from e
            raise Problem(e.kind, with_full_stop(f"{key} {e}"), where=key) from e
    return values


def _wrong_source(source: Any) -> Problem:
    kind = "wrong_type"
    near: list[str] = []
    if isinstance(source, str):
        kind = "out_of_range"
        near = nearest_names(source, ANSWERING)
    message = f"source is one of {', '.join(ANSWERING)}; found {shorten(source)}."
    return Problem(kind, message, where="source", did_you_mean=near[0] if near else None)
