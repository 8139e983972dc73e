"""What the routes share: the live version, the batches, the metrics."""

from asyncio import Future
from collections.abc import Sequence
from pathlib import Path
from weakref import finalize

from serving.http.answer_models import EventsAnswer, VersionAnswer, VersionFacts
from serving.http.bodies import BodyParser
from serving.http.event_feed import EventFeed
from serving.http.handlers import answer_batch, answer_parts, similar_body
from serving.http.hot_swap import LiveVersion, Served, warm
from serving.http.http_errors import Problem
from serving.http.micro_batching import Batcher, Outcome, Parts
from serving.http.prometheus import Metrics
from serving.http.request_models import RecommendRequest, SimilarRequest
from serving.http.server_settings import Settings
from serving.requests.query_rows import Requests
from serving.version.event_buffer import Events
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline


class Service:
    """One recommender's live version, and what answers from it.

    Attributes:
      requests: what the pipeline's queries may hold.
      parser: reads bodies.
      live: follows the registry; `live.current` is what answers.
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
        )

    def start(self) -> None:
        """Starts to follow the registry and the events, and to answer."""
        self.live.start()
        self.batcher.start()
        self.events.start()

    def stop(self) -> None:
        """Answers what waits, then ends."""
        self.events.stop()
        self.batcher.stop()
        self.live.stop()

    def _warm(self, version: Version) -> Version:
        # It knows what its predecessor was sent when it begins to answer.
        return self.events.follow(version, warm)

    def open(self, version: str) -> Version:
        """Opens any version of the pipeline, its digests verified."""
        cache = self.settings.cache
        folder = Path(cache) if cache else None
        opened = Version.open(self.pipeline, version, folder)
        finalize(opened, self.live.dropped.set)
        return opened

    @property
    def version(self) -> Version:
        """The version that answers now. Take it once per answer: the next look may give another
        one.

        Raises:
          Problem: none is ready.
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
        # The version is that of the first part, whatever goes live meanwhile.
        return (yield from answer_parts(self.version, self.requests, request, most, self.metrics))

    def take(self, events: Events) -> EventsAnswer:
        """Takes what users took; lists use it within a second.

        Raises:
          Problem: no version is ready.
        """
        return self.events.take(self.version, events)

    def similar(self, request: SimilarRequest) -> "Future[bytes]":
        """The body of the answer, some time, as `Batcher.submit` gives it.

        Raises:
          Problem: too many wait.
        """
        return self.batcher.submit_parts(self._similar_parts(request), 1)

    def _similar_parts(self, request: SimilarRequest) -> Parts[bytes]:
        yield from ()  # all of it in one turn
        return similar_body(self.version, request)

    def describe(self) -> VersionAnswer:
        """The live version, and what is wrong with the one that should be."""
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
