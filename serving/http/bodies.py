"""Request bodies, checked: what is wrong is told before it waits with others in a batch.

Lengths come first, so that a body that is wrong costs no more than one that is right.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from serving.http.http_errors import Problem
from serving.http.request_models import (
    REMOVED,
    RecommendRequest,
    RequestBodies,
    SimilarRequest,
)
from serving.http.server_settings import Settings
from serving.requests.duplicate_keys import distinct, surely_distinct
from serving.requests.list_request import EXPLAINED, ListRequest, Option
from serving.requests.request_model import Refused, RequestModel, filter_of
from serving.requests.value_types import WrongValue
from twinspire_core.config import source_names
from twinspire_core.config.source_names import ANSWERING
from twinspire_core.errors import did_you_mean, nearest_names, shorten, with_full_stop

_FILTERS = ("allow", "deny")
_OBJECTS = 20  # objects and lists that a query has in the mean, at the most
# From a quote to the next, or to the end where none follows: it matches at every quote and never
# goes back, so a body is scanned once, whatever it holds.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
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
        self._most_objects = _OBJECTS * (1000 + settings.max_queries)

    def recommend(self, content: bytes) -> RecommendRequest:
        """The request that a body of `/v1/recommend` is.

        Raises:
          Problem: what is wrong with it. NaN and numbers beyond a double are no JSON.
        """
        body = read_object(content, self._most_objects)
        request = self.recommend_from(body)
        check_distinct(content, [body, *_queries(body)])
        return request

    def similar(self, content: bytes) -> SimilarRequest:
        """The request that a body of `/v1/similar` is.

        Raises:
          Problem: what is wrong with it.
        """
        body = read_object(content, self._most_objects)
        request = self.similar_from(body)
        check_distinct(content, [body])
        return request

    def recommend_from(self, body: Mapping[str, Any]) -> RecommendRequest:
        """The request that the object in a body of `/v1/recommend` is.

        Raises:
          Problem: what is wrong with it.
        """
        known = ("query", "queries", *self.bodies.options)
        for key in body:
            if key not in known:
                raise self._unknown(key, known, in_query=key in self._requests.fields)
        self._check_sizes(body)
        query = body.get("query")
        queries = body.get("queries")
        if query is None and queries is None:
            raise Problem("missing", _EITHER, where="query")
        if query is not None and queries is not None:
            raise Problem("given_twice", _EITHER, where="query")
        if queries is not None:
            self._check_list(queries)
        options = ListRequest(**_check_values(body, self.bodies.options))
        self._check_items(1 if queries is None else len(queries), options)
        if queries is None:
            parsed = [self._query(query, 0, "query")]
        else:
            parsed = [self._query(one, n, f"queries[{n}]") for n, one in enumerate(queries)]
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
        self._check_sizes(body)
        if body.get("item") is None:
            raise Problem("missing", "A body has the id of an item.", where="item")
        item = _check_values(body, {"item": self.bodies.item})["item"]
        # A query with nothing but the filters says what is wrong with them.
        query = self._query({key: body.get(key) for key in _FILTERS}, 0, "")
        values = _check_values(body, self.bodies.similar_options)
        return SimilarRequest(item, ListRequest(filter=filter_of(query), **values))

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

    def _check_sizes(self, body: Mapping[str, Any]) -> None:
        """Checks the lengths of lists and objects, whatever they hold."""
        queries = body.get("queries")
        if isinstance(queries, list):
            self._check_list(queries)
        self._check_size(None, body)
        for holder in (body, *_queries(body)):
            for key, value in holder.items():
                if value is not queries:
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

    @staticmethod
    def _unknown(key: str, known: Collection[str], *, in_query: bool = False) -> Problem:
        if key in REMOVED:
            return Problem("unknown_key", f"{key} was removed: {REMOVED[key]}.", where=key)
        near = nearest_names(key, known)
        hint = did_you_mean(key, known) or f"known: {', '.join(known)}"
        if in_query:
            hint = f'it belongs into "query": {{"query": {{"{key}": …}}}}'
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


def read_object(content: bytes, most: int) -> dict[str, Any]:
    """The object in a body; of keys that are the same, the last.

    Args:
      content: the body.
      most: objects and lists that it may hold. Nobody else is answered while a megabyte of empty ones
        is made.

    Raises:
      Problem: it is no JSON object, or holds more.
    """
    if _count_objects(content) > most:
        # Texts may hold some of the brackets.
        count = _count_objects(_TEXT.sub(b"", content))
        if count > most:
            message = f"A body has at most {most:,} objects and lists, found {count:,}."
            raise Problem("out_of_range", message)
    try:
        body = orjson.loads(content)
    except ValueError as e:
        raise _bad_json(e) from e
    if not isinstance(body, dict):
        raise Problem("bad_json", f"A body is a JSON object, found {shorten(body)}.")
    return body


def _count_objects(content: bytes) -> int:
    return content.count(b"{") + content.count(b"[")


def check_distinct(content: bytes, objects: Sequence[Mapping[str, Any]]) -> None:
    """Checks that no key of a body is given twice.

    Args:
      content: the body.
      objects: all that it holds, but for the filters in them.

    Raises:
      Problem: one is.
    """
    if surely_distinct(content, sum(map(_count_members, objects)), objects):
        return
    try:
        json.loads(content, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as e:
        raise _bad_json(e) from e
    except Refused as e:
        raise refused(e, "") from e


def _bad_json(error: Exception) -> Problem:
    return Problem("bad_json", f"A body is a JSON object; this one cannot be read: {error}.")


def _queries(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects in a body that are queries by their place, whatever they hold."""
    queries = body.get("queries")
    one_or_more = queries if isinstance(queries, list) else [body.get("query")]
    return [query for query in one_or_more if isinstance(query, dict)]


def _count_members(query: Mapping[str, Any]) -> int:
    """Members of an object and of the filters in it."""
    return len(query) + sum(len(query.get(key) or ()) for key in _FILTERS)


def _check_values(body: Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Any]:
    """The values of those keys that a body has."""
    values: dict[str, Any] = {}
    for key, option in options.items():
        value = body.get(key)
        if value is None:
            continue
        try:
            values[key] = option.value.check(value)
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
    if isinstance(source, str) and source in source_names.REMOVED:
        near = [source_names.REMOVED[source]]
        message = f"source {source} was removed: write {near[0]}."
    return Problem(kind, message, where="source", did_you_mean=near[0] if near else None)
