"""The live version: found out, opened, warmed up beside the one that answers, then put in its
place.

Whoever answers takes `current` once per batch, so a batch is of one version whatever happens
meanwhile. A version that cannot be opened or does not answer changes nothing but `failure`; it is
tried again, ever more rarely.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

import numpy as np

from index_builder.registry.registry import Registry
from serving.answers.recommend import recommend, similar
from serving.answers.retrieval import available
from serving.http.models import K
from serving.http.prometheus import Metrics
from serving.requests.query_rows import Requests
from serving.requests.request_model import Refused
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

_LONGEST = 60.0  # seconds between two tries of a version that failed
_SIZES = (1, 8, 64, 1)  # queries of the batches that warm a version up
log = logging.getLogger("twinspire.serve")


@dataclass(frozen=True, slots=True)
class Served:
    """A version that answers, and since when."""

    version: Version
    since: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong last.

    Attributes:
      version: that could not be loaded; None if the registry did not say which is live.
      tries: how often, one after the other.
    """

    version: str | None
    error: str
    at: datetime
    tries: int


class LiveVersion:
    """Follows the registry.

    Args:
      pipeline: whose live version.
      opened: opens a version by its id.
      warm: asks a version what users will ask; raises if it does not answer.
      poll: seconds between two looks.

    Attributes:
      current: what answers; None until the first version is ready.
      loading: the version that is being opened and warmed up.
      failure: of the last look; None when it went well.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        opened: Callable[[str], Version],
        warm: Callable[[Version], None],
        metrics: Metrics,
        poll: float,
    ) -> None:
        self._registry = Registry(pipeline.registry.root, pipeline.name)
        self._open, self._warm, self._metrics, self._poll = opened, warm, metrics, poll
        self.current: Served | None = None
        self.loading: str | None = None
        self.failure: Failure | None = None
        self._next_try = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._run, name="twinspire-live", daemon=True)

    def start(self) -> None:
        """Starts to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it; a version that is being loaded is waited for at most a second."""
        self._stop.set()
        self._thread.join(1)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._poll)

    def look(self) -> None:
        """Looks which version is live, and takes it if it is another one than the present."""
        wanted: str | None = None
        try:
            if self.current:
                self._registry.keep(self.current.version.home)
            wanted = self._registry.live()
            present = self.current.version.id if self.current else None
            if wanted is None or wanted == present:
                self.failure = None
                return
            if (
                self.failure
                and self.failure.version == wanted
                and time.monotonic() < self._next_try
            ):
                return
            self._take(wanted)
        except (
            Exception
        ) as e:  # whatever is wrong with a version or a store, the present one keeps answering
            self._failed(wanted, e)
        finally:
            self.loading = None

    def _take(self, wanted: str) -> None:
        self.loading = wanted
        started = time.monotonic()
        version = self._open(wanted)
        self._warm(version)
        self.current = Served(version, datetime.now(UTC))  # the swap
        self.failure = None
        day = str(version.manifest.date)
        self._metrics.version.clear()
        self._metrics.version.labels(version.id, day).set(1)
        self._metrics.since.set(time.time())
        self._metrics.swaps.inc()
        log.info(
            "%s answers from now on; loading it took %.1f s", wanted, time.monotonic() - started
        )

    def _failed(self, wanted: str | None, error: Exception) -> None:
        same = self.failure is not None and self.failure.version == wanted
        tries = self.failure.tries + 1 if same and self.failure else 1
        self.failure = Failure(wanted, f"{type(error).__name__}: {error}", datetime.now(UTC), tries)
        self._next_try = time.monotonic() + min(_LONGEST, self._poll * 2**tries)
        self._metrics.failed.inc()
        kept = f"; {self.current.version.id} keeps answering" if self.current else ""
        what = (
            f"{wanted} cannot be served"
            if wanted
            else "the registry does not say which version is live"
        )
        if not same:
            log.error("%s%s: %s", what, kept, self.failure.error)


def warm(version: Version) -> None:
    """Loads all of a version and asks it for lists of several sizes, from every source: no file is
    read afterwards.

    Raises:
      BadData: its lists are empty, or its vectors or scores are not numbers.
    """
    if version.users is not None:
        version.users.load()
    requests = Requests(version.pipeline)
    items = version.ids[: max(_SIZES)].tolist()
    asked = [{"history": items[n : n + 5]} for n in range(max(_SIZES))]
    for source in available(version):
        for size in _SIZES:
            table = requests.table(asked[:size])
            try:
                found = recommend(version, table, K, source=source)
            except Refused as e:  # of a request of ours, which no towers that work refuse
                raise _damaged(version, "Vectors") from e
            if not len(found.counts) or found.counts.min() < min(K, len(version.ids)):
                raise BadData(
                    f"A version lists items for everybody; {version.id} answers warm-up queries"
                    " with too few."
                )
            if not np.isfinite(found.scores[found.rows >= 0]).all():
                raise _damaged(version, "Scores")
    similar(version, items[0], K)


def _damaged(version: Version, what: str) -> BadData:
    return BadData(
        f"{what} are finite; those of {version.id} are not. Its towers are damaged: roll back."
    )
