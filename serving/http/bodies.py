"""Request bodies, checked: what is wrong is told before it waits with others in a batch."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from serving.answers.retrieval import SOURCES
from serving.http.http_errors import Problem
from serving.http.server_settings import Settings
from serving.requests.query_rows import Refused, Requests, distinct
from twinspire_core.messages import nearest_names, shorten, with_full_stop

K = 10
"""Items of a list, unless `k` says otherwise."""
OPTIONS = ("query", "queries", "k", "source", "exclude_seen", "display")
SIMILAR_OPTIONS = ("item", "k", "allow", "deny", "display")


class Options(NamedTuple):
    """What may differ between requests; queries with the same ones are answered together.

    Attributes:
      k: items per list.
      source: of `serving.answers.retrieval.SOURCES`; None leaves the choice to the version.
      exclude_seen: leave out what the user had before.
      display: send display columns along.
    """

    k: int = K
    source: str | None = None
    exclude_seen: bool = False
    display: bool = False


class Asked(NamedTuple):
    """The body of `/v1/recommend`.

    Attributes:
      queries: as `Requests.parse` made them, one at least.
      options: for all of them.
      single: whether it came as `query`.
    """

    queries: list[dict[str, Any]]
    options: Options
    single: bool


class Like(NamedTuple):
    """The body of `/v1/similar`."""

    item: str
    k: int
    allow: Any
    deny: Any
    display: bool


async def read(request: Request, most: int) -> dict[str, Any]:
    """The body as an object.

    Raises:
      Problem: it is too large, no JSON object, or has a key twice. NaN and numbers beyond a double
      are no JSON.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_large(most)
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > most:
                raise _too_large(most)
    except ClientDisconnect as e:
        raise Problem("bad_json", "The connection was closed before the end of the body.") from e
    try:
        found = orjson.loads(content)
        # Orjson takes the last of keys that are the same
        json.loads(content, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as e:
        raise Problem("bad_json", f"A body is a JSON object; this one cannot be read: {e}.") from e
    except Refused as e:
        raise refused(e, "") from e
    if not isinstance(found, dict):
        raise Problem("bad_json", f"A body is a JSON object, found {shorten(found)}.")
    return found


def asked(body: Mapping[str, Any], requests: Requests, settings: Settings) -> Asked:
    """Checks the body of `/v1/recommend`.

    Raises:
      Problem: what is wrong with it.
    """
    for key in body.keys() - set(OPTIONS):
        raise _unknown(key, OPTIONS, requests)
    query, queries = body.get("query"), body.get("queries")
    if (query is None) == (queries is None):
        raise Problem(
            "missing" if query is None else "given_twice",
            'A body has either "query", one object, or "queries", a list of them; {} is enough of a'
            " query.",
            where="query",
        )
    if queries is not None:
        queries = _list_of_queries(queries, settings.max_queries)
    source = body.get("source")
    if source is not None and source not in SOURCES:
        near = nearest_names(source, SOURCES) if isinstance(source, str) else []
        raise Problem(
            "out_of_range" if isinstance(source, str) else "wrong_type",
            f"source is one of {', '.join(SOURCES)}; found {shorten(source)}.",
            where="source",
            did_you_mean=near[0] if near else None,
        )
    options = Options(
        _k(body, settings), source, _flag(body, "exclude_seen"), _flag(body, "display")
    )
    if queries is None:
        return Asked([_query(requests, query, 0, "query")], options, single=True)
    return Asked(
        [_query(requests, one, n, f"queries[{n}]") for n, one in enumerate(queries)],
        options,
        single=False,
    )


def like(body: Mapping[str, Any], requests: Requests, settings: Settings) -> Like:
    """Checks the body of `/v1/similar`.

    Raises:
      Problem: what is wrong with it.
    """
    for key in body.keys() - set(SIMILAR_OPTIONS):
        raise _unknown(key, SIMILAR_OPTIONS)
    item = body.get("item")
    if item is None:
        raise Problem("missing", "A body has the id of an item.", where="item")
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise Problem("wrong_type", f"item is text, found {shorten(item)}.", where="item")
    filters = {key: body.get(key) for key in ("allow", "deny")}
    _query(requests, filters, 0, "")  # which says what is wrong with them
    return Like(str(item), _k(body, settings), **filters, display=_flag(body, "display"))


def _query(requests: Requests, query: Any, row: int, where: str) -> dict[str, Any]:
    try:
        return requests.parse(query, row)
    except Refused as e:
        raise refused(e, where) from e


def refused(error: Refused, where: str) -> Problem:
    """What is told of a query that is refused.

    Args:
      error: why.
      where: the query's key; empty where its keys are the body's own.
    """
    place = ".".join(filter(None, (where, error.key)))
    return Problem(error.kind, with_full_stop(error), where=place or None, did_you_mean=error.near)


def _list_of_queries(queries: Any, most: int) -> list[Any]:
    if not isinstance(queries, list):
        raise Problem(
            "wrong_type",
            f"queries is a list of objects, found {shorten(queries)}.",
            where="queries",
        )
    if not 1 <= len(queries) <= most:
        raise Problem(
            "out_of_range",
            f"queries has 1 to {most} objects, found {len(queries)}.",
            where="queries",
        )
    return queries


def _k(body: Mapping[str, Any], settings: Settings) -> int:
    k = body.get("k")
    if k is None:
        return K
    if isinstance(k, float) and k.is_integer():
        k = int(k)  # JSON knows no difference
    if isinstance(k, bool) or not isinstance(k, int):
        raise Problem(
            "wrong_type",
            f"k is a whole number from 1 to {settings.max_k}, found {shorten(k)}.",
            where="k",
        )
    if not 1 <= k <= settings.max_k:
        raise Problem(
            "out_of_range", f"k is a whole number from 1 to {settings.max_k}, found {k}.", where="k"
        )
    return k


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Problem("wrong_type", f"{name} is true or false, found {shorten(value)}.", where=name)
    return bool(value)


def _unknown(key: str, options: tuple[str, ...], requests: Requests | None = None) -> Problem:
    near, text = nearest_names(key, options), shorten(key)
    if requests is not None and key in requests.keys:
        hint = f'it belongs into "query": {{"query": {{"{key}": …}}}}'
    else:
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(options)}"
    message = with_full_stop(f"{text} is no option; {hint}")
    return Problem("unknown_key", message, where=key, did_you_mean=near[0] if near else None)


def _too_large(most: int) -> Problem:
    return Problem(
        "body_too_large", f"A body has at most {most:,} bytes; send fewer queries at a time."
    )
