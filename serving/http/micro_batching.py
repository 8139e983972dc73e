"""Answers the requests that wait at one moment as one batch, and heavy requests part by part between the
batches.

A worker thread takes all waiting requests, up to a limit, answers them, and takes the next ones. No request
waits for others to come: a single request is a batch of its own. The more requests come at once, the larger
the batches. Two workers keep two cores busy: while one runs compiled loops, which need no GIL, the other
prepares its batch.

Each query has a weight: the number of ordinary queries that take as long. A request that weighs more than
a quarter of a batch is answered part by part. A filter costs a search of its own. So a batch has light
requests without filters. Then requests with filters, and the next parts of heavy ones, have turns of a few
milliseconds. A light request waits for at most one such turn.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from threading import Condition, Thread
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving.http.bodies import RecommendRequest
from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics
from serving.requests.request_model import EXCLUDE, SEEN, ListRequest, filter_of
from serving.version.filters import NO_FILTER, Filter

_Answer = TypeVar("_Answer")
Outcome = bytes | Exception
Work = Callable[[Sequence[RecommendRequest]], list[Outcome]]
Parts = Generator[int, None, _Answer]
"""An answer that is made part by part: yields the number of queries of each part, returns the answer."""
_TURN = 0.005  # seconds for filters and parts, after which plain requests come next
_PARTS = 4  # a part is this many times smaller than a batch, because batches wait for it
_LONG_LIST = 100  # items of a list that weigh 1
_IDS = 250  # ids in histories and exclusions that weigh 1 more
_EXPLAINED = 2  # weight of an explained item
_SOON = 0.05  # seconds, after which a slow answer watches whether its client has left


class _Job(NamedTuple):
    """A request that waits, or the parts of an answer.

    Attributes:
      weight: weight of all its queries together.
      filter: the filter that all its queries have.
    """

    weight: int
    future: "asyncio.Future[Any]"
    request: RecommendRequest | None = None
    filter: Filter = NO_FILTER
    parts: Parts[Any] | None = None


class Batcher:
    """Collects requests for worker threads.

    Args:
      work: answers several requests. Gives, in their order, the body of each answer or the exception
        that says why there is none.
      parts: answers one request in parts of at most this many queries. It runs in a worker thread.
      most: largest weight of a batch, as a number of ordinary queries.
      pending: weight that may wait. Requests answered part by part may fill half of it.
      threads: number of workers.
    """

    def __init__(
        self,
        work: Work,
        parts: Callable[[RecommendRequest, int], Parts[bytes]],
        metrics: Metrics,
        *,
        most: int,
        pending: int,
        threads: int = 1,
    ) -> None:
        self._work = work
        self._parts = parts
        self._metrics = metrics
        self._most = most
        self._limit = pending
        self._pending = 0
        self._threads = [
            # Daemons, so that a server that fails at its start ends
            Thread(target=self._run, name="twinspire-batches", daemon=True)
            for _ in range(threads)
        ]
        # Guards all that follows, and wakes a worker when a job comes: jobs without a filter, jobs by
        # their filter, and turns of the filters and of jobs that are answered part by part.
        self._waiting = Condition()
        self._plain: deque[_Job] = deque()
        self._filtered: dict[Filter, deque[_Job]] = {}
        self._turns: deque[_Job | Filter] = deque()
        self._ended = False

    def start(self) -> None:
        """Starts the workers."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answers the waiting requests, then ends the workers."""
        with self._waiting:
            self._ended = True
            self._waiting.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, request: RecommendRequest) -> "asyncio.Future[bytes]":
        """The future body of the answer, or the exception that says why there is none. To give a
        request up, cancel the future or set an exception.

        Raises:
          Problem: too many requests wait.
        """
        filters = {filter_of(query) for query in request.queries}
        weights = [_weigh(query, request.options) for query in request.queries]
        part = math.ceil(self._most / _PARTS)
        if sum(weights) > part or len(filters) > 1:
            per_part = max(1, part // max(weights))
            return self.submit_parts(self._parts(request, per_part), sum(weights))
        return self._put(_Job(sum(weights), _future(), request, filters.pop()), self._limit)

    def submit_parts(self, parts: Parts[_Answer], weight: int) -> "asyncio.Future[_Answer]":
        """The future value of an answer that is made part by part.

        Raises:
          Problem: too many requests wait.
        """
        # The other half is for short requests, so that heavy ones cannot keep them out
        return self._put(_Job(weight, _future(), parts=parts), self._limit // 2)

    def _put(self, job: _Job, limit: int) -> "asyncio.Future[Any]":
        with self._waiting:
            # If nothing waits, any request is let in: one that is too heavy would never be otherwise.
            if self._pending and self._pending + job.weight > limit:
                raise Problem(
                    "overloaded", f"{self._pending} queries are waiting already. Try again soon."
                )
            self._pending += job.weight
            self._line_up(job)
            self._waiting.notify()
        # Outside of the lock: a figure that is late by one request does no harm
        self._metrics.pending.set(self._pending)
        return job.future

    def _line_up(self, job: _Job) -> None:
        if job.parts is not None:
            self._turns.append(job)
        elif job.filter == NO_FILTER:
            self._plain.append(job)
        else:
            if job.filter not in self._filtered:
                self._filtered[job.filter] = deque()
                self._turns.append(job.filter)
            self._filtered[job.filter].append(job)

    def _forget(self, jobs: Sequence[_Job]) -> None:
        """Subtracts the weight of jobs from the waiting weight."""
        with self._waiting:
            self._pending -= sum(job.weight for job in jobs)
        self._metrics.pending.set(self._pending)

    def _run(self) -> None:
        while True:
            with self._waiting:
                self._waiting.wait_for(lambda: self._plain or self._turns or self._ended)
                if not self._plain and not self._turns:
                    return
                batch = self._take(self._plain)
                has_turns = bool(self._turns)
            if batch:
                self._answer(batch)
            if has_turns:  # requests that come meanwhile wait for the next batch
                self._take_turns()

    def _take(self, jobs: deque[_Job]) -> list[_Job]:
        """Takes as many of the first jobs as fit into a batch."""
        taken: list[_Job] = []
        room = self._most
        while jobs:
            room -= jobs[0].weight
            # The first job is taken whatever it weighs.
            if taken and room < 0:
                break
            taken.append(jobs.popleft())
        return taken

    def _take_turns(self) -> None:
        """Answers requests with filters, and parts, until it is time for plain requests."""
        end = time.perf_counter() + _TURN
        while True:
            with self._waiting:
                if not self._turns:
                    return
                turn = self._turns.popleft()
                jobs = [] if isinstance(turn, _Job) else self._take_filtered(turn)
            if not isinstance(turn, _Job):
                self._answer(jobs)
            elif self._advance(turn):
                with self._waiting:  # at the end of the line
                    self._turns.append(turn)
            if time.perf_counter() >= end:
                return

    def _take_filtered(self, wanted: Filter) -> list[_Job]:
        """The first jobs with one filter; further jobs with it wait for the next turn."""
        jobs = self._take(self._filtered[wanted])
        if self._filtered[wanted]:
            self._turns.append(wanted)
        else:
            del self._filtered[wanted]
        return jobs

    def _advance(self, job: _Job) -> bool:
        """Makes the next part of an answer. Returns whether there are more."""
        assert job.parts is not None
        if job.future.done():
            # Nobody waits for the remaining parts: the client has left
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
        """Answers a batch, without the jobs that were given up."""
        # Their clients left while they waited
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
            # A fault fails this batch only: the worker is needed for later requests
            outcomes = [e] * len(wanted)
        self._observe(sum(len(request.queries) for request in requests), started)
        self._deliver(wanted, outcomes)

    def _observe(self, queries: int, started: float) -> None:
        self._metrics.batch_queries.observe(queries)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)

    def _deliver(self, jobs: list[_Job], outcomes: Sequence[Any]) -> None:
        self._forget(jobs)
        # One call into the loop for the whole batch: calls from another thread are slow.
        loop = jobs[0].future.get_loop()
        if not loop.is_closed():
            pairs = zip((job.future for job in jobs), outcomes, strict=True)
            loop.call_soon_threadsafe(_set_outcomes, [*pairs])


def _weigh(query: Mapping[str, Any], options: ListRequest) -> int:
    """The number of ordinary queries that take as long as this one."""
    ids = sum(len(query.get(key) or ()) for key in (SEEN, EXCLUDE))
    explained = options.k * _EXPLAINED if options.explain else 0
    return math.ceil(options.k / _LONG_LIST) + ids // _IDS + explained


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


def _set_outcomes(outcomes: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # the client gave up
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


async def while_connected(request: Request, answer: "asyncio.Future[_Answer]") -> _Answer:
    """Waits for an answer as long as the client does.

    Raises:
      ClientDisconnect: the client has left. The future gets the same exception.
    """
    loop = answer.get_loop()
    leaving: list[asyncio.Task[None]] = []

    def watch() -> None:
        leaving.append(loop.create_task(_leave(request, answer)))

    # Most answers are sooner than that, and need no task that watches the client.
    begin = loop.call_later(_SOON, watch)
    try:
        return await answer
    finally:
        begin.cancel()
        for task in leaving:
            task.cancel()


async def _leave(request: Request, answer: "asyncio.Future[Any]") -> None:
    """Gives up an answer when the client leaves. The whole body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if not answer.done():
        answer.set_exception(ClientDisconnect())
