"""The metrics that Prometheus reads at `/metrics`."""

import asyncio
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import Scope

from twinspire_core.contracts.version_manifest import Manifest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Series of creation times would double the number of series, and say nothing.
disable_created_metrics()
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_QUERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server. Each server has its own registry, so that several can run in one
    process.

    Attributes:
      paths: the paths that there are, which are counted by name.
    """

    def __init__(self) -> None:
        self.paths: frozenset[str] = frozenset()
        self._registry = r = CollectorRegistry()
        self._making = asyncio.Lock()
        self._begun, self._text, self._next = 0, b"", 0.0
        self.requests = Counter(
            "twinspire_requests", "Requests, by path and status.", ["path", "status"], registry=r
        )
        self.errors = Counter(
            "twinspire_errors", "Errors, by path and type.", ["path", "type"], registry=r
        )
        self.seconds = Histogram(
            "twinspire_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=r,
        )
        self.batch_queries = Histogram(
            "twinspire_batch_queries",
            "Queries answered as one batch.",
            buckets=_QUERIES,
            registry=r,
        )
        self.batch_seconds = Histogram(
            "twinspire_batch_seconds", "Seconds that a batch took.", buckets=_SECONDS, registry=r
        )
        self.pending = Gauge(
            "twinspire_pending_queries", "Weight of the waiting queries.", registry=r
        )
        self.unknown_users = Counter(
            "twinspire_unknown_users", "Queries of unknown users.", registry=r
        )
        self.short_lists = Counter(
            "twinspire_short_lists",
            "Lists shorter than asked for: the rest was seen or excluded.",
            registry=r,
        )
        self.lists = Counter("twinspire_lists", "Lists, by source.", ["source"], registry=r)
        self.events = Counter("twinspire_events", "Events received.", registry=r)
        self.events_of_users = Counter(
            "twinspire_events_of_users", "Events received with a user.", registry=r
        )
        self.event_failures = Counter(
            "twinspire_event_failures", "Failures to count events.", registry=r
        )
        self.newest_event = Gauge(
            "twinspire_newest_event_seconds",
            "Time of the newest event of the last body, in Unix time.",
            registry=r,
        )
        self.version = Gauge(
            "twinspire_live_version",
            "1 for the live version.",
            ["version", "day"],
            registry=r,
        )
        self.since = Gauge(
            "twinspire_live_since_seconds",
            "When the live version began to answer, in Unix time.",
            registry=r,
        )
        self.quality = Gauge(
            "twinspire_live_quality",
            "Measures of the live version at the gate, by kind of list and measure.",
            ["lists", "measure"],
            registry=r,
        )
        self.swaps = Counter(
            "twinspire_swaps", "Swaps to a new version, including the first one.", registry=r
        )
        self.failed = Counter(
            "twinspire_version_failures",
            "Failures to load a live version, or to read which version is live.",
            registry=r,
        )

    def path(self, scope: Scope) -> str:
        """The name under which a request is counted."""
        # One name for all unknown paths: clients may ask for any path, and each would be a time series.
        path: str = scope["path"]
        return path if path in self.paths else "other"

    def count_error(self, scope: Scope, kind: str) -> None:
        """Counts a request that was answered with an error of this type."""
        self.errors.labels(self.path(scope), kind).inc()

    def answers_from(self, manifest: Manifest) -> None:
        """Notes that another version answers from now on."""
        # Only one version is live, so the series of the last one is removed.
        self.version.clear()
        self.version.labels(manifest.version, str(manifest.date)).set(1)
        self.since.set(time.time())
        self.swaps.inc()
        judged = manifest.quality
        lists = {
            "two-tower": judged.candidate,
            "ranked": judged.trees.candidate if judged.trees else None,
        }
        # A version without a measure must not show the value of the last version.
        self.quality.clear()
        for name, value in lists.items():
            if judged.metric and value is not None:
                self.quality.labels(name, judged.metric).set(value)
        if judged.index_recall is not None:
            self.quality.labels("two-tower", "index_recall").set(judged.index_recall)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    async def newest_text(self) -> bytes:
        """The same, made after this call and off the event loop. Calls that wait share one text, so
        however many there are, texts take at most a twentieth of a processor from the answers.
        """
        number = self._begun
        async with self._making:
            if self._begun == number:  # else a text was begun after this call
                await asyncio.sleep(self._next - time.monotonic())
                self._begun += 1
                start = time.monotonic()
                self._text = await asyncio.to_thread(self.text)
                end = time.monotonic()
                self._next = end + 19 * (end - start)
            return self._text
