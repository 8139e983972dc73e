"""Prepares the next items while the present one is used. Imports no TensorFlow: serving uses it
too.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], most: int) -> Iterator[T]:
    """The same items, of which up to `most` are made before they are asked for, in a thread.

    What making an item raises is raised where the item is asked for. The thread ends when the last
    item was taken, or when the consumer stops.
    """
    end = object()
    # One worker, so that items are made one after the other: a generator runs in one thread at a
    # time, and their order stays.
    with ThreadPoolExecutor(1) as thread:
        made = deque(thread.submit(next, items, end) for _ in range(most))
        try:
            while (item := made.popleft().result()) is not end:
                made.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)
