"""Requests of one moment, answered as one batch.

A worker thread takes all that waits, up to a limit, answers it, and takes what has come meanwhile.
Nothing waits on purpose: alone, a request is a batch of its own; the more there are at once, the
larger the batches.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

from serving.http.http_errors import Problem
from serving.http.models import RecommendRequest
from serving.http.prometheus import Metrics

Outcome = bytes | Exception
Work = Callable[[Sequence[RecommendRequest]], list[Outcome]]


class _Job(NamedTuple):
    request: RecommendRequest
    future: "asyncio.Future[bytes]"
    loop: asyncio.AbstractEventLoop


class Batcher:
    """Collects requests for a worker thread.

    Args:
      work: answers several requests: for each, in order, the body of its answer, or why there is
        none.
      most: queries of a batch; a request with more of them is one by itself.
      pending: queries that may wait.
    """

    def __init__(self, work: Work, metrics: Metrics, *, most: int, pending: int) -> None:
        self._work = work
        self._metrics = metrics
        self._most = most
        self._limit = pending
        # None ends the worker: it comes after all that was submitted before.
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._pending = 0
        self._lock = Lock()
        self._thread = Thread(target=self._run, name="twinspire-batches", daemon=True)

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Answers what waits, then ends the worker."""
        self._queue.put(None)
        self._thread.join()

    async def submit(self, request: RecommendRequest) -> bytes:
        """The body of the answer.

        Raises:
          Problem: the request cannot be answered, or too many wait.
        """
        self._count(len(request.queries))
        loop = asyncio.get_running_loop()
        job = _Job(request, loop.create_future(), loop)
        self._queue.put(job)
        return await job.future

    def _count(self, queries: int) -> None:
        with self._lock:
            # One request is let in however large it is, or it would never be.
            if self._pending and self._pending + queries > self._limit:
                raise Problem(
                    "overloaded", f"{self._pending} queries wait already; try again in a moment."
                )
            self._pending += queries
        self._metrics.pending.set(self._pending)

    def _run(self) -> None:
        held: _Job | None = None  # a job that did not fit into the batch before
        while (first := held or self._queue.get()) is not None:
            jobs, held, ended = self._gather(first)
            self._answer(jobs)
            if ended:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], _Job | None, bool]:
        """What waits, as far as it fits; a job that does not fit any more; whether it was the
        end.
        """
        jobs = [first]
        queries = len(first.request.queries)
        while True:
            try:
                job = self._queue.get_nowait()
            except Empty:
                return jobs, None, False
            if job is None:
                return jobs, None, True
            queries += len(job.request.queries)
            if queries > self._most:
                return jobs, job, False
            jobs.append(job)

    def _answer(self, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        try:
            outcomes = self._work([job.request for job in jobs])
        except Exception as e:
            outcomes = [e] * len(jobs)
        queries = sum(len(job.request.queries) for job in jobs)
        self._metrics.batch_queries.observe(queries)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)
        with self._lock:
            self._pending -= queries
        self._metrics.pending.set(self._pending)
        # One call into the loop for the batch, not one per request.
        for loop in dict.fromkeys(job.loop for job in jobs):
            of_loop = [
                (job.future, outcome)
                for job, outcome in zip(jobs, outcomes, strict=True)
                if job.loop is loop
            ]
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, of_loop)


def _deliver(outcomes: list[tuple["asyncio.Future[bytes]", Outcome]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # whoever asked has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
