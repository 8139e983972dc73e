"""What the routes share: the live version, the batches, the events and the metrics."""

from asyncio import Future
from collections.abc import Sequence
from pathlib import Path
from weakref import finalize

from serving.http.answer_bodies import answer_batch, answer_parts, answer_similar, dump
from serving.http.bodies import BodyParser, RecommendRequest, SimilarRequest
from serving.http.events import EventFeed
from serving.http.hot_swap import LiveVersion, Served, warm
from serving.http.http_errors import Problem
from serving.http.micro_batching import Batcher, Outcome, Parts
from serving.http.openapi import EventsAnswer, VersionAnswer, VersionFacts
from serving.http.prometheus import Metrics
from serving.http.server_settings import Settings
from serving.requests.query_rows import Requests
from serving.version.event_buffer import Events
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.search.top_k import CORES


class Service:
    """One recommender's live version and what answers from it.

    Attributes:
      live: follows the registry; `live.current` is the version that answers.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.metrics = Metrics()
        self.requests = Requests(pipeline)
        self.parser = BodyParser(self.requests.model, settings)
        self.live = LiveVersion(pipeline, self.open, self._warm, self.metrics, settings.poll)
        self.events = EventFeed(
            settings.max_events, settings.max_new_items, self.live.grow, self.metrics
        )
        self.batcher = Batcher(
            self._answer,
            self._answer_parts,
            self.metrics,
            most=settings.max_batch,
            pending=settings.max_pending,
            threads=min(2, CORES),
        )

    def start(self) -> None:
        """Starts the threads that follow the registry, feed events and answer batches."""
        self.live.start()
        self.batcher.start()
        self.events.start()

    def stop(self) -> None:
        """Answers what waits, then ends."""
        # The batcher answers what waits, by the version that is still there.
        self.events.stop()
        self.batcher.stop()
        self.live.stop()

    def _warm(self, version: Version) -> Version:
        # The version knows all events that the server was sent before it begins to answer.
        return self.events.follow(version, warm)

    def open(self, version: str) -> Version:
        """Opens any version of the pipeline, its digests verified."""
        cache = self.settings.cache
        folder = Path(cache) if cache else None
        opened = Version.open(self.pipeline, version, folder)
        # Tells the live version's thread that there are graphs to collect.
        finalize(opened, self.live.dropped.set)
        return opened

    @property
    def version(self) -> Version:
        """The version that answers now. Take it once per answer, because it may change at any time.

        Raises:
          Problem: no version is ready.
        """
        if self.live.current is None:
            raise Problem(
                "not_ready", f"No version of {self.pipeline.name} answers yet: {self.waiting()}."
            )
        return self.live.current.version

    def check_ready(self) -> None:
        """Checks that a version answers.

        Raises:
          Problem: none does.
        """
        assert self.version

    def waiting(self) -> str:
        """Why no version answers."""
        if self.live.loading:
            return f"{self.live.loading} is being loaded"
        if self.live.failure:
            return (
                f"{self.live.failure.version or 'the registry'} cannot be read:"
                f" {self.live.failure.error}"
            )
        return (
            "none is live. `twinspire run PIPELINE --date DATE` makes one, `twinspire versions"
            " PIPELINE` lists all"
        )

    def _answer(self, batch: Sequence[RecommendRequest]) -> list[Outcome]:
        return answer_batch(self.version, self.requests, batch, self.metrics)

    def _answer_parts(self, request: RecommendRequest, most: int) -> Parts[bytes]:
        # All parts are by the version of the first, whatever goes live meanwhile.
        return (yield from answer_parts(self.version, self.requests, request, most, self.metrics))

    def take(self, events: Events) -> EventsAnswer:
        """Takes live events. Lists use them within a second.

        Raises:
          Problem: no version is ready.
        """
        return self.events.take(self.version, events)

    def similar(self, request: SimilarRequest) -> "Future[bytes]":
        """The future body of the answer to `/v1/similar`, as of `Batcher.submit`.

        Raises:
          Problem: too many requests wait.
        """
        return self.batcher.submit_parts(self._similar_parts(request), 1)

    def _similar_parts(self, request: SimilarRequest) -> Parts[bytes]:
        yield from ()  # makes it a generator, of one part
        return dump(answer_similar(self.version, request))

    def describe(self) -> VersionAnswer:
        """The live version, and why a newer one could not be loaded."""
        version: str | None = None
        facts: VersionFacts = {}
        if self.live.current:
            version = self.live.current.version.id
            facts = _describe_version(self.live.current)
        failure = self.live.failure
        return {
            "pipeline": self.pipeline.name,
            "version": version,
            **facts,
            "loading": self.live.loading,
            "failure": (
                {
                    "version": failure.version,
                    "error": failure.error,
                    "at": failure.at.isoformat(timespec="seconds"),
                    "tries": failure.tries,
                }
            )
            if failure
            else None,
        }


def _describe_version(served: Served) -> VersionFacts:
    version = served.version
    manifest = version.manifest
    return {
        "day": str(manifest.date),
        "corpus_date": str(manifest.corpus_date or manifest.date),
        "refreshes": manifest.refreshes,
        "since": served.since.isoformat(timespec="seconds"),
        "items": manifest.items,
        "new_items": len(version.items) - len(version.published.items),
        "dimension": manifest.dimension,
        "parent": manifest.parent,
        "users": version.users.count() if version.users is not None else None,
        "sources": version.sources,
        "exclude_seen": version.exclude_seen,
        "index": version.index.settings.kind,
        "notes": version.warnings,
    }
