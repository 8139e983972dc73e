"""The bytes of a body as they come in, and the JSON object in them: not too large, in time, and with no
key given twice.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from serving.http.http_errors import Problem
from serving.requests.json_values import Refused, distinct, surely_distinct
from twinspire_core.errors import shorten, with_full_stop

_LARGE = 1 << 14  # bytes, from which a thread parses a body
_FILTERS = ("allow", "deny")
# From a quote to the next, or to the end where none follows. It matches at every quote and never
# backtracks, so a body is scanned once, whatever it holds.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_Request = TypeVar("_Request")


async def read(request: Request, most: int, seconds: float) -> bytes:
    """The bytes of a body.

    Raises:
      Problem: they are more than `most`, take longer than `seconds`, or end too early.
    """
    # Refused before a byte of it is read, if the client says how long it is.
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    # A body may be longer than it says, or not say how long it is.
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise _too_large(most)
    except TimeoutError as e:
        message = (
            f"A body must arrive within {seconds:g} s after its headers; {len(content):,} bytes came."
            " Send fewer queries or events at a time."
        )
        raise Problem("timed_out", message) from e
    except ClientDisconnect as e:
        raise Problem("bad_json", "The connection was closed before the end of the body.") from e
    return bytes(content)


def _too_large(most: int) -> Problem:
    return Problem(
        "body_too_large",
        f"A body can have at most {most:,} bytes. Send fewer queries or events at a time.",
    )


async def parse(parser: Callable[[bytes], _Request], content: bytes) -> _Request:
    """The request in a body. A thread parses a large one, so that other requests do not wait.

    Raises:
      Problem: something is wrong with the body.
    """
    if len(content) <= _LARGE:
        return parser(content)
    return await run_in_threadpool(parser, content)


def read_object(content: bytes, most: int) -> dict[str, Any]:
    """The object in a body. Of equal keys the last counts here; `check_distinct` refuses them.

    Args:
      most: objects and lists that the body may hold. While a megabyte of empty ones is made, nobody
        else is answered.

    Raises:
      Problem: it is no JSON object, or holds more.
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
        raise _bad_json(e) from e
    if not isinstance(body, dict):
        raise Problem("bad_json", f"A body must be a JSON object; found {shorten(body)}.")
    return body


def _count_objects(content: bytes) -> int:
    # Where every second byte is a bracket, `bytes.count` takes ten times as long, and others wait for it.
    characters = np.frombuffer(content, np.uint8)
    return sum(int(np.count_nonzero(characters == bracket)) for bracket in b"{[")


def check_distinct(content: bytes, objects: Sequence[Mapping[str, Any]]) -> None:
    """Checks that no key of a body is given twice.

    Args:
      objects: all objects in it, except for the filters of queries.

    Raises:
      Problem: a key is given twice.
    """
    if surely_distinct(content, sum(map(_count_members, objects)), objects):
        return
    try:
        json.loads(content, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as e:
        raise _bad_json(e) from e
    except Refused as e:
        raise Problem(e.kind, with_full_stop(e), where=e.key) from e


def _bad_json(error: Exception) -> Problem:
    return Problem("bad_json", f"A body must be a JSON object; this one cannot be read: {error}.")


def _count_members(query: Mapping[str, Any]) -> int:
    """The members of an object and of the filters in it."""
    return len(query) + sum(len(query.get(key) or ()) for key in _FILTERS)
