"""The most costly requests that are allowed, or refused, sent over and over while others are."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np

from benchmarks.load.client import ask_until, leave_until, requests
from benchmarks.load.world import HISTORY, KINDS, json_bytes

QUERIES = 1000  # the most of a request
LISTED = 100  # items per list, the most for so many queries


class Costly(NamedTuple):
    """A request.

    Attributes:
      request: whole.
      status: of its answer.
      stays: seconds after which the client leaves; None waits for the answer.
    """

    request: bytes
    status: int = 200
    stays: float | None = None


def costly(items: int, seed: int = 2) -> dict[str, Costly]:
    """Requests by what makes them costly; all are as large as a server's defaults allow."""
    rng = np.random.default_rng(seed)

    def history(length: int) -> list[str]:
        return [f"i{n:06d}" for n in rng.integers(0, items, length)]

    def filters(number: int) -> dict[str, list[str]]:
        return {"kind": [f"k{number % KINDS}", f"k{(number // KINDS + 1 + number) % KINDS}"]}

    bodies = {
        # Each filter differs, and costs a separate search.
        "filters": {
            "queries": [{"history": history(5), "deny": filters(n)} for n in range(QUERIES)],
            "k": LISTED,
        },
        "lists": {
            "queries": [{"history": history(HISTORY)} for _ in range(QUERIES)],
            "k": LISTED,
            "display": True,
        },
        "long lists": {
            "queries": [{"history": history(HISTORY)} for _ in range(QUERIES // 10)],
            "k": 10 * LISTED,
            "display": True,
        },
        # As many ids as a body holds, of the most that a query may have.
        "histories": {
            "queries": [{"history": history(10_000)} for _ in range(8)],
            "k": 10 * LISTED,
            "exclude_seen": True,
        },
        "heavy query": {
            "query": {"history": history(10_000), "exclude": history(10_000)},
            "k": 10 * LISTED,
            "exclude_seen": True,
            "display": True,
        },
        "explain": {"query": {"history": history(HISTORY)}, "k": 100, "explain": True},
    }
    whole = requests([json_bytes(body) for body in bodies.values()])
    found = {kind: Costly(one) for kind, one in zip(bodies, whole, strict=True)}
    many = b'{"queries":[' + b",".join([b"{}"] * 340_000) + b"]}"
    found["wrong body"] = Costly(requests([many])[0], status=422)
    described = [("history", item) for item in history(500)]
    page = get(f"/?{urlencode([*described, ('k', 200)])}")
    found["page"] = Costly(page)
    found["pages left"] = Costly(page, stays=0.02)
    return found


def get(address: str) -> bytes:
    """A request for a page."""
    return f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@contextmanager
def sending(port: int, costly: Costly) -> Iterator[None]:
    """Sends a request again as soon as it is answered or left; ends with an answer.

    Raises:
      ConnectionError: its answer has another status.
    """
    end = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        if costly.stays is None:
            asking = pool.submit(ask_until, port, costly.request, end, costly.status)
        else:
            asking = pool.submit(leave_until, port, costly.request, end, costly.stays)
        try:
            yield
        finally:
            end.set()
        asking.result()
