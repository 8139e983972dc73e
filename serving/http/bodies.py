"""Bodies of requests: read in time and size, and for lists the types that check and document them, and errors
about wrong bodies.

A body is checked before it waits for a batch. Lengths are checked first, so that a wrong body costs no more
than a correct one.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple, Required, TypeVar

import numpy as np
import orjson
from fastapi import Request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from serving.http.http_errors import Problem
from serving.http.server_settings import Settings
from serving.requests.json_values import ONE_ITEM_ID, Refused, typed_dict, whole_number
from serving.requests.request_model import (
    DEFAULTS,
    EXPLAINED,
    OPTIONS,
    ListRequest,
    Option,
    RequestField,
    RequestModel,
    without_nulls,
)
from serving.version.filters import Filter
from twinspire_core.config import source_registry
from twinspire_core.errors import did_you_mean, nearest_names, shorten, with_full_stop

_FILTERS = ("allow", "deny")
_QUERIES = ("query", "queries")
_OBJECTS = 20  # objects and lists that a query has on average, at most
# From a quote to the next, or to the end where none follows. It matches at every quote and never
# backtracks, so a body is scanned once, whatever it holds.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_LARGE = 1 << 14  # bytes, from which a thread parses a body
_Request = TypeVar("_Request")
Keys = Mapping[str, Option | RequestField]
_EITHER = (
    'Give either "query" (an object) or "queries" (a list of objects). A query may be empty: {}.'
)


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The bytes of a body.

    Raises:
      Problem: they are more than `most`, take longer than `seconds`, or end too early.
    """
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise Problem(
                        "body_too_large",
                        f"A body can have at most {most:,} bytes. Send fewer queries or events at a"
                        " time.",
                    )
    except TimeoutError as e:
        message = (
            f"A body must arrive within {seconds:g} s after its headers; {len(content):,} bytes came."
            " Send fewer queries or events at a time."
        )
        raise Problem("timed_out", message) from e
    except ClientDisconnect as e:
        raise Problem("bad_json", "The connection was closed before the end of the body.") from e
    return bytes(content)


async def parse_body(
    parse: Callable[[dict[str, Any]], _Request], content: bytes, most: int
) -> _Request:
    """The request in a body. A thread parses a large one, so that other requests do not wait.

    Args:
      parse: makes the request from the body's JSON object.
      most: as in `read_object`.

    Raises:
      Problem: something is wrong with the body.
    """
    if len(content) <= _LARGE:
        return parse(read_object(content, most))
    return await run_in_threadpool(lambda: parse(read_object(content, most)))


def read_object(content: bytes, most: int) -> dict[str, Any]:
    """The object in a body. Of equal keys the last one counts. NaN and numbers too large for a double
    are not JSON.

    Args:
      most: objects and lists that the body may hold. While a megabyte of empty ones is parsed, no
        other request is answered.

    Raises:
      Problem: it is no JSON object, or holds more than `most`.
    """
    if len(content) > most and _count_objects(content) > most:
        # Some of the brackets may stand in texts.
        count = _count_objects(_TEXT.sub(b"", content))
        if count > most:
            message = f"A body can have at most {most:,} objects and lists; found {count:,}."
            raise Problem("out_of_range", message)
    try:
        body = orjson.loads(content)
    except ValueError as e:
        message = f"A body must be a JSON object; this one cannot be read: {e}."
        raise Problem("bad_json", message) from e
    if not isinstance(body, dict):
        raise Problem("bad_json", f"A body must be a JSON object; found {shorten(body)}.")
    return body


def _count_objects(content: bytes) -> int:
    # Where every second byte is a bracket, `bytes.count` takes ten times as long, and others wait for it.
    characters = np.frombuffer(content, np.uint8)
    return sum(int(np.count_nonzero(characters == bracket)) for bracket in b"{[")


class RecommendRequest(NamedTuple):
    """A request to `/v1/recommend` or `/v1/encode`.

    Attributes:
      queries: at least one, as `RequestModel.parse` makes them.
      single: whether the body had `query` instead of a list of `queries`.
    """

    queries: list[dict[str, Any]]
    options: ListRequest
    single: bool


class SimilarRequest(NamedTuple):
    """A request to `/v1/similar`. It uses only the options `k`, `filter` and `display`."""

    item: str
    options: ListRequest = DEFAULTS


class BodyParser:
    """Turns bodies into requests. Its types check bodies and document them in the OpenAPI document.

    Attributes:
      one_query: type of a body of `/v1/recommend` with one query.
      several_queries: type of one with a list of queries.
      encode_body: type of a body of `/v1/encode`, of one query or several.
      similar_body: type of a body of `/v1/similar`.
      most_objects: objects and lists that a body may hold.
    """

    def __init__(self, requests: RequestModel, settings: Settings) -> None:
        self._requests = requests
        self._settings = settings
        self.most_objects = _OBJECTS * (1000 + settings.max_queries)
        # A deployment may allow shorter lists than the type in `OPTIONS`.
        k = OPTIONS["k"]._replace(value=whole_number(1, settings.max_k))
        self._options: Keys = OPTIONS | {"k": k}
        options = _optional(self._options)
        length = Field(min_length=1, max_length=settings.max_queries, fail_fast=True)
        # Any, because mypy cannot know a type that is made at run time
        queries: Any = Annotated[list[requests.query_type], length]  # type: ignore[name-defined]
        self.one_query = _body("One", {"query": Required[requests.query_type], **options})
        self.several_queries = _body("Several", {"queries": Required[queries], **options})
        self.encode_body = _body("One", {"query": Required[requests.query_type]}) | _body(
            "Several", {"queries": Required[queries]}
        )
        self._similar_keys: Keys = {
            "item": Option(ONE_ITEM_ID, "An item of the live version's catalogue."),
            "k": k,
            **{key: requests.fields[key] for key in _FILTERS},
            "display": OPTIONS["display"]._replace(description="Also send display columns."),
        }
        members = _optional(self._similar_keys)
        about = Field(description=self._similar_keys["item"].description)
        members["item"] = Required[Annotated[ONE_ITEM_ID.annotation, about]]
        self.similar_body = _body("The body", members)
        self._several = TypeAdapter(self.several_queries)
        self._similar = TypeAdapter(self.similar_body)

    def encode(self, body: Mapping[str, Any]) -> RecommendRequest:
        """The request in a body of `/v1/encode`, which has no options. Errors are those of `recommend`."""
        for key in body.keys() - _QUERIES:
            raise self._unknown(key, {})
        request = self._parse(body)
        return request._replace(options=replace(request.options, vectors=True))

    def recommend(self, body: Mapping[str, Any]) -> RecommendRequest:
        """The request in a body of `/v1/recommend`.

        Raises:
          Problem: the body is wrong.
        """
        request = self._parse(body)
        self._check_items(len(request.queries), request.options)
        return request

    def _parse(self, body: Mapping[str, Any]) -> RecommendRequest:
        self._check_sizes(body)
        queries = _raw_queries(body)
        others = {key: value for key, value in body.items() if key not in _QUERIES}
        try:
            checked = self._several.validate_python(others | {"queries": queries})
        except ValidationError as e:
            # If options and queries are wrong, the error is about the options.
            of_options = [error for error in e.errors() if error["loc"][0] != "queries"]
            if of_options:
                raise self._refusal(body, of_options, self._options) from e
            raise self._wrong_queries(body, queries, e.errors()) from e
        parsed: list[dict[str, Any]] = []
        for number, query in enumerate(checked.pop("queries")):
            try:
                parsed.append(self._requests.by_column(query))
            except Refused as e:
                raise refused(e, _where(body, number)) from e
        options = ListRequest(**without_nulls(checked))
        return RecommendRequest(parsed, options, single=body.get("queries") is None)

    def similar(self, body: Mapping[str, Any]) -> SimilarRequest:
        """The request in a body of `/v1/similar`. Errors are those of `recommend`."""
        self._check_sizes(body)
        try:
            checked = without_nulls(self._similar.validate_python(body))
        except ValidationError as e:
            raise self._refusal(body, e.errors(), self._similar_keys) from e
        filter_ = Filter(*(checked.pop(key, None) for key in _FILTERS))
        return SimilarRequest(checked.pop("item"), ListRequest(filter=filter_, **checked))

    def _refusal(
        self, body: Mapping[str, Any], errors: Sequence[ErrorDetails], keys: Keys
    ) -> Problem:
        """The error about the options of a body.

        Args:
          keys: all keys that a body may have.
        """
        # Unknown keys first: a misspelt key may be the cause of other errors, such as a missing key.
        error = min(errors, key=lambda error: error["loc"][0] in keys)
        key = str(error["loc"][0])
        if key not in keys:
            return self._unknown(key, keys)
        if error["type"] == "missing" or body[key] is None:
            return Problem(
                "missing", 'item is missing. Give an item\'s id: {"item": "i3"}.', where=key
            )
        refusal = keys[key].value.refusal(key, body[key], error)
        if key == "source" and isinstance(body[key], str):
            refusal.near = next(iter(nearest_names(body[key], source_registry.answering())), None)
        return refused(refusal, "")

    def _wrong_queries(
        self, body: Mapping[str, Any], queries: Any, errors: Sequence[ErrorDetails]
    ) -> Problem:
        """The error about the queries of a body.

        Args:
          queries: as `_raw_queries` gives them.
          errors: errors of pydantic, which stops at the first wrong query.
        """
        if queries in (None, []):
            kind = "missing" if queries == [] else "given_twice"
            return Problem(kind, _EITHER, where="query")
        if not isinstance(queries, list):
            message = f"queries must be a list of objects; found {shorten(queries)}."
            return Problem("wrong_type", message, where="queries")
        number = int(errors[0]["loc"][1])
        refusal = self._requests.refusal(queries[number], errors, depth=2)
        return refused(refusal, _where(body, number))

    def _check_sizes(self, body: Mapping[str, Any]) -> None:
        """Checks the lengths of lists and objects, without looking into them."""
        queries = body.get("queries")
        most = self._settings.max_queries
        if isinstance(queries, list) and not 1 <= len(queries) <= most:
            message = f"queries must have 1 to {most} objects; found {len(queries)}."
            raise Problem("out_of_range", message, where="queries")
        most = self._settings.max_ids
        for key, value in _values(body):
            # The list of queries has a limit of its own.
            if isinstance(value, list | dict) and len(value) > most and value is not queries:
                name = key or "An object"
                message = f"{name} can have at most {most:,} entries; found {len(value):,}."
                raise Problem("out_of_range", message, where=key)

    def _check_items(self, queries: int, options: ListRequest) -> None:
        k = options.k
        most = self._settings.max_items
        if queries > 1 and queries * k > most:
            raise Problem(
                "out_of_range",
                f"The lists of a request can have at most {most:,} items together; found {queries:,}"
                f" lists of {k:,}. Ask for shorter lists, or for fewer at a time.",
                where="k",
            )
        if options.explain and queries * k > EXPLAINED:
            raise Problem(
                "out_of_range",
                f"At most {EXPLAINED} items of a request can be explained; found {queries:,} lists"
                f" of {k:,}. Ask for shorter lists, or for fewer at a time.",
                where="explain",
            )

    def _unknown(self, key: str, keys: Keys) -> Problem:
        names = [*keys] if keys is self._similar_keys else [*_QUERIES, *keys]
        near = nearest_names(key, names)
        hint = did_you_mean(key, names) or f"known: {', '.join(names)}"
        if "query" in names and key in self._requests.fields:
            hint = f'put it into "query": {{"query": {{"{key}": …}}}}'
        message = with_full_stop(f"{shorten(key)} is not an option; {hint}")
        return Problem("unknown_key", message, where=key, did_you_mean=near[0] if near else None)


def _body(title: str, members: dict[str, Any]) -> Any:
    return typed_dict(title, members, ConfigDict(extra="forbid", title=title))


def _optional(options: Keys) -> dict[str, Any]:
    """Types of optional keys, which may be null, too."""
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


def _queries(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects in the places of queries, unchecked."""
    queries = body.get("queries")
    one_or_more = queries if isinstance(queries, list) else [body.get("query")]
    return [query for query in one_or_more if isinstance(query, dict)]


def _values(body: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """All values that may be long, with their keys: the body itself, values of the body and of its queries,
    and values in filters.
    """
    yield None, body
    for holder in (body, *_queries(body)):
        yield from holder.items()
        for key in _FILTERS:
            if isinstance(values := holder.get(key), dict):
                yield from ((key, entries) for entries in values.values())


def _raw_queries(body: Mapping[str, Any]) -> Any:
    """The queries of a body as a list: one for `query`, empty without queries, None if the body has both
    keys. A wrong value of `queries` is returned as it is.
    """
    query, queries = body.get("query"), body.get("queries")
    if query is not None:
        queries = [query] if queries is None else None
    elif queries is None:
        queries = []
    return [without_nulls(query) for query in queries] if isinstance(queries, list) else queries


def _where(body: Mapping[str, Any], number: int) -> str:
    return "query" if body.get("queries") is None else f"queries[{number}]"


def refused(error: Refused, where: str) -> Problem:
    """The error answer for a refused query.

    Args:
      where: the query's key in the body; empty where the keys are the body's own.
    """
    key = ".".join(filter(None, (where, error.key)))
    return Problem(error.kind, with_full_stop(error), where=key or None, did_you_mean=error.near)
