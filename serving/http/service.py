"""What the routes share: the live version, the batches, the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.answers.retrieval import available
from serving.http.bodies import Asked
from serving.http.handlers import answer
from serving.http.hot_swap import LiveVersion, warm
from serving.http.http_errors import Problem
from serving.http.micro_batching import Batcher, Outcome
from serving.http.prometheus import Metrics
from serving.http.server_settings import Settings
from serving.requests.query_rows import Requests
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline


class Service:
    """One recommender's live version, and what answers from it.

    Attributes:
      requests: what the pipeline's queries may hold.
      live: follows the registry; `live.current` is what answers.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.metrics = Metrics()
        self.requests = Requests(pipeline)
        self.live = LiveVersion(pipeline, self.open, warm, self.metrics, settings.poll)
        self.batcher = Batcher(
            self._work, self.metrics, most=settings.max_batch, pending=settings.max_pending
        )  # fmt: skip

    def start(self) -> None:
        """Starts to follow the registry and to answer."""
        self.live.start()
        self.batcher.start()

    def stop(self) -> None:
        """Answers what waits, then ends."""
        self.batcher.stop()
        self.live.stop()

    def open(self, version: str) -> Version:
        """Opens any version of the pipeline, its digests verified."""
        cache = self.settings.cache
        return Version.open(self.pipeline, version, Path(cache) if cache else None)

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
        """Raises as `version` does."""
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

    def _work(self, asked: Sequence[Asked]) -> list[Outcome]:
        return answer(self.version, self.requests, asked, self.metrics)

    def about(self) -> dict[str, Any]:
        """What `/v1/version` tells."""
        served, failure = self.live.current, self.live.failure
        told: dict[str, Any] = {"pipeline": self.pipeline.name, "version": None}
        if served:
            version = served.version
            told |= {
                "version": version.id,
                "day": str(version.manifest.date),
                "corpus_date": str(version.manifest.corpus_date or version.manifest.date),
                "refreshes": version.manifest.refreshes,
                "since": served.since.isoformat(timespec="seconds"),
                "items": version.manifest.items,
                "dimension": version.manifest.dimension,
                "parent": version.manifest.parent,
                "users": version.users.count() if version.users is not None else None,
                "sources": available(version),
                "index": version.index.settings.kind,
            }
        told["loading"] = self.live.loading
        told["failure"] = failure and {
            "version": failure.version,
            "error": failure.error,
            "at": failure.at.isoformat(timespec="seconds"),
            "tries": failure.tries,
        }
        return told
