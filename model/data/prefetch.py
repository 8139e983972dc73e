"""Making the next things while the present one is used."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], most: int) -> Iterator[T]:
    """The same items, of which up to `most` are made before they are asked for, in a thread of
    their own.

    What making one raises is raised where it is asked for. No thread is left when the last item was
    taken, or when no more are wanted.
    """
    end = object()
    with ThreadPoolExecutor(1) as thread:
        made = deque(thread.submit(next, items, end) for _ in range(most))
        try:
            while (item := made.popleft().result()) is not end:
                made.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)
