"""Prepares the next items in a thread while the current one is used. It imports no TensorFlow, because
serving uses it too.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], most: int) -> Iterator[T]:
    """Yields the same items. A thread makes up to `most` of them in advance.

    An exception that is raised while an item is made is raised to the consumer of that item. The thread ends
    after the last item, or when the consumer stops.
    """
    end = object()
    # One worker makes the items one after the other, because a generator runs in one thread at a time. This
    # also keeps their order.
    with ThreadPoolExecutor(1) as thread:
        made = deque(thread.submit(next, items, end) for _ in range(most))
        try:
            while (item := made.popleft().result()) is not end:
                made.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)
