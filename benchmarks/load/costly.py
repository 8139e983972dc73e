"""The most costly requests that are allowed, sent over and over beside others."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from benchmarks.load.client import ask_until, requests
from benchmarks.load.world import HISTORY, KINDS, json_bytes

QUERIES = 1000  # the most of a request
LISTED = 100  # items per list, the most for so many queries


def costly(items: int, seed: int = 2) -> dict[str, bytes]:
    """Requests by what makes them costly; all are as large as a server's defaults allow."""
    rng = np.random.default_rng(seed)

    def history(length: int) -> list[str]:
        return [f"i{n:06d}" for n in rng.integers(0, items, length)]

    def filters(number: int) -> dict[str, list[str]]:
        return {"kind": [f"k{number % KINDS}", f"k{(number // KINDS + 1 + number) % KINDS}"]}

    bodies = {
        # Each filter is another one, and costs a search of its own.
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
    }
    whole = requests([json_bytes(body) for body in bodies.values()])
    return dict(zip(bodies, whole, strict=True))


@contextmanager
def beside(port: int, request: bytes) -> Iterator[None]:
    """Sends a request anew as soon as it is answered, meanwhile; ends with an answer.

    Raises:
      ConnectionError: it was refused.
    """
    end = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_until, port, request, end)
        try:
            yield
        finally:
            end.set()
        asking.result()
