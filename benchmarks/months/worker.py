"""The process that trains, and how long what is left will take it."""

import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

TASKS_OF_A_PROCESS = 25


class Worker:
    """A process that trains, and now and then another one: what TensorFlow and Beam keep of each
    day adds up to gigabytes.
    """

    def __init__(self, threads: int | None) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=limit_threads,
            initargs=(threads,),
            max_tasks_per_child=TASKS_OF_A_PROCESS,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls it there, and waits."""
        self._pool.submit(function, *arguments).result()


def limit_threads(threads: int | None) -> None:
    """Limits TensorFlow's threads of an operation, and operations side by side."""
    if threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


class Ahead:
    """How long what is left will take, by what was done of its kind."""

    def __init__(self) -> None:
        self._expected = Counter[str]()
        self._done = Counter[str]()
        self._seconds = defaultdict[str, float](float)
        self._since = time.monotonic()

    def expect(self, kind: str, number: int) -> None:
        """Announces that many of a kind."""
        self._expected[kind] += number

    def begin(self) -> None:
        """From here on the clock runs for what is told next."""
        self._since = time.monotonic()

    def tell(self, kind: str, number: int) -> None:
        """So many were done since."""
        now = time.monotonic()
        self._done[kind] += number
        if number:
            self._seconds[kind] += now - self._since
        self._since = now

    def left(self) -> str:
        """What is left, in words."""
        parts = []
        for kind, words in (("on", "days to go on"), ("anew", "trainings anew")):
            number = self._expected[kind] - self._done[kind]
            if number > 0:
                each = self._seconds[kind] / self._done[kind] if self._done[kind] else None
                minutes = "" if each is None else f", some {number * each / 60:.0f} min"
                parts.append(f"{number} {words}{minutes}")
        return f"Left: {'; '.join(parts) or 'nothing'}."
