"""Requests of one moment, answered as one batch, and heavy ones part by part between the batches.

A worker thread takes all that waits, up to a limit, answers it, and takes what has come meanwhile.
Nothing waits on purpose: alone, a request is a batch of its own; the more there are at once, the
larger the batches.

Each query has a weight: how many ordinary ones take as long. A request that weighs more than a quarter
of a batch shares none: it is answered part by part. A filter costs a search of its own. So a batch is of
light requests without filters; then those with filters, and the next parts of heavy ones, have their
turns for a few milliseconds. Whoever asks for a list waits for one such turn at most, whatever else is
asked for.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, NamedTuple, TypeVar

from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics
from serving.http.request_models import RecommendRequest
from serving.requests.list_request import ListRequest
from serving.requests.request_model import EXCLUDE, SEEN, filter_of
from serving.version.filters import NO_FILTER, Filter

_Answer = TypeVar("_Answer")
Outcome = bytes | Exception
Work = Callable[[Sequence[RecommendRequest]], list[Outcome]]
Parts = Generator[int, None, _Answer]
"""An answer that is made part by part: yields how many queries each part had, and returns the answer."""
_TURN = 0.005  # seconds, after which those that have no filters come next
_PARTS = 4  # of a batch: a part is so much smaller, as a batch waits for it
_LONG_LIST = 100  # items, from which on a list weighs more than one
_IDS = 250  # in histories and what is excluded: so many more weigh 1
_EXPLAINED = 2  # weight of an item that is explained


class _Job(NamedTuple):
    """What waits: a request, or the parts of an answer.

    Attributes:
      weight: of all its queries.
      filter: that all of them have.
    """

    weight: int
    future: "asyncio.Future[Any]"
    request: RecommendRequest | None = None
    filter: Filter = NO_FILTER
    parts: Parts[Any] | None = None


class Batcher:
    """Collects requests for a worker thread.

    Args:
      work: answers several requests: for each, in order, the body of its answer, or why there is
        none.
      parts: answers one request part by part, each of so many queries at most; runs in the worker
        thread.
      most: weight of a batch: as many ordinary queries.
      pending: weight that may wait; requests that are answered part by part may fill half of it.
    """

    def __init__(
        self,
        work: Work,
        parts: Callable[[RecommendRequest, int], Parts[bytes]],
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
        filters = {filter_of(query) for query in request.queries}
        weights = [_weigh(query, request.options) for query in request.queries]
        part = math.ceil(self._most / _PARTS)
        if sum(weights) > part or len(filters) > 1:
            per_part = max(1, part // max(weights))
            return self.submit_parts(self._parts(request, per_part), sum(weights))
        return self._put(_Job(sum(weights), _future(), request, filters.pop()), self._limit)

    def submit_parts(self, parts: Parts[_Answer], weight: int) -> "asyncio.Future[_Answer]":
        """Likewise, of an answer that is made part by part.

        Raises:
          Problem: too many wait.
        """
        return self._put(_Job(weight, _future(), parts=parts), self._limit // 2)

    def _put(self, job: _Job, limit: int) -> "asyncio.Future[Any]":
        with self._lock:
            # One request is let in however heavy it is, or it would never be.
            if self._pending and self._pending + job.weight > limit:
                raise Problem(
                    "overloaded", f"{self._pending} queries wait already; try again in a moment."
                )
            self._pending += job.weight
        self._metrics.pending.set(self._pending)
        self._queue.put(job)
        return job.future

    def _forget(self, jobs: Sequence[_Job]) -> None:
        """They wait no longer."""
        with self._lock:
            self._pending -= sum(job.weight for job in jobs)
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
            elif job.filter == NO_FILTER:
                self._plain.append(job)
            else:
                if job.filter not in self._filtered:
                    self._filtered[job.filter] = deque()
                    self._turns.append(job.filter)
                self._filtered[job.filter].append(job)

    def _take(self, jobs: deque[_Job]) -> list[_Job]:
        """The first jobs, as many as fit into a batch."""
        taken: list[_Job] = []
        room = self._most
        while jobs:
            room -= jobs[0].weight
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
            self._forget([job])
            return False
        started = time.perf_counter()
        outcome: Any
        try:
            queries = next(job.parts)
        except StopIteration as end:
            outcome = end.value
        except Exception as e:
            outcome = e
        else:
            if queries:
                self._observe(queries, started)
            return True
        self._deliver([job], [outcome])
        return False

    def _answer(self, jobs: list[_Job]) -> None:
        """Answers a batch, but for those who have gone."""
        gone = [job for job in jobs if job.future.done()]
        self._forget(gone)
        wanted = [job for job in jobs if job not in gone]
        if not wanted:
            return
        requests = [job.request for job in wanted if job.request is not None]
        started = time.perf_counter()
        try:
            outcomes = self._work(requests)
        except Exception as e:
            outcomes = [e] * len(wanted)
        self._observe(sum(len(request.queries) for request in requests), started)
        self._deliver(wanted, outcomes)

    def _observe(self, queries: int, started: float) -> None:
        self._metrics.batch_queries.observe(queries)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)

    def _deliver(self, jobs: list[_Job], outcomes: Sequence[Any]) -> None:
        self._forget(jobs)
        # One call into the loop for the batch, not one per request.
        for loop in dict.fromkeys(job.future.get_loop() for job in jobs):
            of_loop = [
                (job.future, outcome)
                for job, outcome in zip(jobs, outcomes, strict=True)
                if job.future.get_loop() is loop
            ]
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set_outcomes, of_loop)


def _weigh(query: Mapping[str, Any], options: ListRequest) -> int:
    """How many ordinary queries take as long as one."""
    ids = sum(len(query.get(key) or ()) for key in (SEEN, EXCLUDE))
    explained = options.k * _EXPLAINED if options.explain else 0
    return math.ceil(options.k / _LONG_LIST) + ids // _IDS + explained


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


def _set_outcomes(outcomes: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # whoever asked has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
