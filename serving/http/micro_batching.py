"""Requests of one moment, answered as one batch, and large ones part by part between the batches.

A worker thread takes all that waits, up to a limit, answers it, and takes what has come meanwhile.
Nothing waits on purpose: alone, a request is a batch of its own; the more there are at once, the
larger the batches.

A filter costs a search of its own, and long requests many. So a batch is of requests without
filters; then those with filters, and the next parts of long ones, have their turns for a few
milliseconds. Whoever asks for a list waits for one such turn at most, whatever else is asked for.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import NamedTuple

from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics
from serving.http.request_models import RecommendRequest
from serving.requests.request_model import EXCLUDE, SEEN, filter_of
from serving.version.filters import Filter

Outcome = bytes | Exception
Work = Callable[[Sequence[RecommendRequest]], list[Outcome]]
Parts = Generator[int, None, bytes]
"""An answer that is made part by part: yields how many queries each part had, and returns the body
of the answer.
"""
_TURN = 0.005  # seconds, after which those that have no filters come next
_PARTS = 4  # of a batch: a part is so much smaller, as a batch waits for it
_MANY_IDS = 10_000  # in histories and what is excluded, which cost a search of much of the corpus
_LONG_LIST = 100  # items, from which on a list counts as several


class _Job(NamedTuple):
    """What waits: a request, or the parts of an answer.

    Attributes:
      queries: how many of them.
      filter: that all of them have.
    """

    queries: int
    future: "asyncio.Future[bytes]"
    request: RecommendRequest | None = None
    filter: Filter = Filter()
    parts: Parts | None = None


class Batcher:
    """Collects requests for a worker thread.

    Args:
      work: answers several requests: for each, in order, the body of its answer, or why there is
        none.
      parts: answers one request part by part, each of so many lists at most; runs in the worker
        thread.
      most: queries of a batch.
      pending: queries that may wait; requests that are answered part by part may fill half of it.
    """

    def __init__(
        self,
        work: Work,
        parts: Callable[[RecommendRequest, int], Parts],
        metrics: Metrics,
        *,
        most: int,
        pending: int,
    ) -> None:
        self._work = work
        self._parts = parts
        self._metrics = metrics
        self._most = most
        self._limit = pending
        # None ends the worker: it comes after all that was submitted before.
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._pending = 0
        self._lock = Lock()
        self._thread = Thread(target=self._run, name="twinspire-batches", daemon=True)
        # The worker's own: jobs without and with a filter, and whose turn is next of the latter
        # and of those that are answered part by part.
        self._plain: deque[_Job] = deque()
        self._filtered: dict[Filter, deque[_Job]] = {}
        self._turns: deque[_Job | Filter] = deque()
        self._ended = False

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Answers what waits, then ends the worker."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, request: RecommendRequest) -> "asyncio.Future[bytes]":
        """The body of the answer, some time; an exception if the request cannot be answered. Who
        does not want it any more cancels the future, or sets an exception.

        Raises:
          Problem: too many wait.
        """
        queries = len(request.queries)
        filters = {filter_of(query) for query in request.queries}
        k = request.options.k
        ids = sum(len(query.get(key) or ()) for query in request.queries for key in (SEEN, EXCLUDE))
        is_long = queries > lists_at_once(k, self._most) or ids > _MANY_IDS or len(filters) > 1
        if queries > 1 and is_long:
            per_part = lists_at_once(k, math.ceil(self._most / _PARTS))
            if ids > _MANY_IDS:
                per_part = 1
            return self.submit_parts(self._parts(request, per_part), queries)
        return self._put(_Job(queries, _future(), request, filters.pop()), self._limit)

    def submit_parts(self, parts: Parts, queries: int) -> "asyncio.Future[bytes]":
        """Likewise, of an answer that is made part by part.

        Raises:
          Problem: too many wait.
        """
        return self._put(_Job(queries, _future(), parts=parts), self._limit // 2)

    def _put(self, job: _Job, limit: int) -> "asyncio.Future[bytes]":
        with self._lock:
            # One request is let in however large it is, or it would never be.
            if self._pending and self._pending + job.queries > limit:
                raise Problem(
                    "overloaded", f"{self._pending} queries wait already; try again in a moment."
                )
            self._pending += job.queries
        self._metrics.pending.set(self._pending)
        self._queue.put(job)
        return job.future

    def _count(self, queries: int) -> None:
        with self._lock:
            self._pending += queries
        self._metrics.pending.set(self._pending)

    def _run(self) -> None:
        while True:
            idle = not self._plain and not self._turns
            if idle and self._ended:
                return
            self._receive(wait=idle)
            if self._plain:
                self._answer(self._take(self._plain))
            self._take_turns()

    def _receive(self, *, wait: bool) -> None:
        """Sorts what has come."""
        while not self._ended:
            try:
                job = self._queue.get(block=wait)
            except Empty:
                return
            wait = False
            if job is None:
                self._ended = True
            elif job.parts is not None:
                self._turns.append(job)
            elif job.filter == Filter():
                self._plain.append(job)
            else:
                if job.filter not in self._filtered:
                    self._filtered[job.filter] = deque()
                    self._turns.append(job.filter)
                self._filtered[job.filter].append(job)

    def _take(self, jobs: deque[_Job]) -> list[_Job]:
        """The first jobs, as many as fit into a batch."""
        taken: list[_Job] = []
        room = 1.0
        while jobs:
            assert jobs[0].request is not None
            room -= jobs[0].queries / lists_at_once(jobs[0].request.options.k, self._most)
            if taken and room < 0:
                break
            taken.append(jobs.popleft())
        return taken

    def _take_turns(self) -> None:
        """Answers requests with filters, and parts, until others should be looked at."""
        end = time.perf_counter() + _TURN
        while self._turns:
            turn = self._turns.popleft()
            if isinstance(turn, _Job):
                goes_on = self._advance(turn)
            else:
                jobs = self._filtered[turn]
                self._answer(self._take(jobs))
                goes_on = bool(jobs)
                if not goes_on:
                    del self._filtered[turn]
            if goes_on:
                self._turns.append(turn)
            if time.perf_counter() >= end:
                return

    def _advance(self, job: _Job) -> bool:
        """Makes the next part of an answer; whether there are more."""
        assert job.parts is not None
        if job.future.done():
            job.parts.close()
            self._count(-job.queries)
            return False
        started = time.perf_counter()
        outcome: Outcome
        try:
            queries = next(job.parts)
        except StopIteration as end:
            outcome = end.value
        except Exception as e:
            outcome = e
        else:
            self._observe(queries, started)
            return True
        self._deliver([job], [outcome])
        return False

    def _answer(self, jobs: list[_Job]) -> None:
        """Answers a batch, but for those who have gone."""
        wanted = [job for job in jobs if not job.future.done()]
        self._count(sum(job.queries for job in wanted) - sum(job.queries for job in jobs))
        if not wanted:
            return
        started = time.perf_counter()
        try:
            outcomes = self._work([job.request for job in wanted if job.request is not None])
        except Exception as e:
            outcomes = [e] * len(wanted)
        self._observe(sum(job.queries for job in wanted), started)
        self._deliver(wanted, outcomes)

    def _observe(self, queries: int, started: float) -> None:
        self._metrics.batch_queries.observe(queries)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)

    def _deliver(self, jobs: list[_Job], outcomes: list[Outcome]) -> None:
        self._count(-sum(job.queries for job in jobs))
        # One call into the loop for the batch, not one per request.
        for loop in dict.fromkeys(job.future.get_loop() for job in jobs):
            of_loop = [
                (job.future, outcome)
                for job, outcome in zip(jobs, outcomes, strict=True)
                if job.future.get_loop() is loop
            ]
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set_outcomes, of_loop)


def lists_at_once(k: int, most: int) -> int:
    """How many lists of k items are made at once, where short ones may be `most`."""
    return max(1, most // math.ceil(k / _LONG_LIST))


def _future() -> "asyncio.Future[bytes]":
    return asyncio.get_running_loop().create_future()


def _set_outcomes(outcomes: list[tuple["asyncio.Future[bytes]", Outcome]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # whoever asked has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
