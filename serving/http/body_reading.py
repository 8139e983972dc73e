"""The bytes of a body as they come in: not too many, and in time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from serving.http.http_errors import Problem

_LARGE = 1 << 14  # bytes of a body
_Request = TypeVar("_Request")


async def read(request: Request, most: int, seconds: float) -> bytes:
    """The body.

    Raises:
      Problem: it has more than `most` bytes, is not there after so many seconds, or ends too early.
    """
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
        message = f"A body is here {seconds:g} s after its headers; {len(content):,} bytes came."
        raise Problem("timed_out", message) from e
    except ClientDisconnect as e:
        raise Problem("bad_json", "The connection was closed before the end of the body.") from e
    return bytes(content)


async def parse(parser: Callable[[bytes], _Request], content: bytes) -> _Request:
    """What a body says. A large one is read by a thread, so that nobody waits for that.

    Raises:
      Problem: what is wrong with it.
    """
    if len(content) <= _LARGE:
        return parser(content)
    return await run_in_threadpool(parser, content)


def _too_large(most: int) -> Problem:
    return Problem(
        "body_too_large",
        f"A body has at most {most:,} bytes; send fewer queries or events at a time.",
    )
