"""The live version: looked up, opened, warmed up beside the one that answers, then put in its
place.

Whoever answers takes `current` once per batch, so a batch is of one version whatever happens
meanwhile. A version that cannot be opened or does not answer changes nothing but `failure`; it is
tried again, ever more rarely.
"""

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from threading import Event, Lock, Thread

import numpy as np
import pyarrow as pa

from index_builder.registry.registry import Registry
from serving.answers.recommend import recommend
from serving.answers.similar import similar
from serving.http.prometheus import Metrics
from serving.requests.list_request import DEFAULTS, ListRequest
from serving.requests.query_rows import Requests
from serving.requests.request_model import Refused
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData
from twinspire_core.library_loading import import_loading, suppress_native_stderr
from twinspire_core.terminal import doing

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
      warm: asks a version what users will ask; raises if it does not answer. Gives the version that
        answers then, which may know more items by now.
      poll: seconds between two looks.

    Attributes:
      current: what answers; None until the first version is ready.
      loading: the version that is being opened and warmed up.
      failure: of the last look; None when it went well.
      dropped: set once nobody holds a version any more, whoever held it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        opened: Callable[[str], Version],
        warm: Callable[[Version], Version],
        metrics: Metrics,
        poll: float,
    ) -> None:
        self._registry = Registry(pipeline.registry.root, pipeline.name)
        self._open = opened
        self._warm = warm
        self._metrics = metrics
        self._poll = poll
        self.current: Served | None = None
        self.loading: str | None = None
        self.failure: Failure | None = None
        self.dropped = Event()
        self._next_try = 0.0
        self._swap = Lock()
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
            if self.dropped.is_set():
                self.dropped.clear()
                # Graphs of TensorFlow are cycles, few and large: the collector would come by after
                # dozens of versions.
                gc.collect()

    def look(self) -> None:
        """Looks which version is live, and takes it if it is another one than the present."""
        wanted: str | None = None
        try:
            if self.current:
                # Cleaning up elsewhere must not remove files that are read later.
                self._registry.keep(self.current.version.home)
            wanted = self._registry.live()
            present = self.current.version.id if self.current else None
            if wanted is None and present:
                raise BadData(
                    f"A registry's log says which version is live; that in {self._registry.root} is"
                    " gone. Restore or mount it."
                )
            if wanted is None or wanted == present:
                self.failure = None
            elif not self._waits(wanted):
                self._take(wanted)
        except Exception as e:
            # Whatever is wrong with a version or a store, the present one keeps answering.
            self._fail(wanted, e)
        finally:
            self.loading = None

    def _waits(self, wanted: str) -> bool:
        """Whether it is too early to try a version again."""
        failed_before = self.failure is not None and self.failure.version == wanted
        return failed_before and time.monotonic() < self._next_try

    def _take(self, wanted: str) -> None:
        self.loading = wanted
        started = time.monotonic()
        with doing(f"loading {wanted}"):
            _freeze_imports()
            version = self._open(wanted)
            version = self._warm(version)
        # The swap, in one assignment: whoever took the old one before goes on with it.
        with self._swap:
            self.current = Served(version, datetime.now(UTC))
        self.failure = None
        self._metrics.answers_from(version.manifest)
        log.info(
            "%s answers from now on; loading it took %.1f s", wanted, time.monotonic() - started
        )

    def grow(self, version: Version) -> None:
        """Has a version answer in place of the same one with fewer items; nothing else is swapped."""
        with self._swap:
            current = self.current
            if current and current.version.published is version.published:
                self.current = replace(current, version=version)

    def _fail(self, wanted: str | None, error: Exception) -> None:
        previous = self.failure
        again = previous is not None and previous.version == wanted
        tries = previous.tries + 1 if previous is not None and again else 1
        self.failure = Failure(wanted, f"{type(error).__name__}: {error}", datetime.now(UTC), tries)
        self._next_try = time.monotonic() + min(_LONGEST, self._poll * 2**tries)
        self._metrics.failed.inc()
        if again:  # it has been logged
            return
        if wanted:
            what = f"{wanted} cannot be served"
        else:
            what = "the registry does not say which version is live"
        if self.current:
            what += f"; {self.current.version.id} keeps answering"
        log.error("%s: %s", what, self.failure.error)


@cache
def _freeze_imports() -> None:
    """Imports what reads versions, and has the collector look at nothing that is there by then.

    It stops all threads while it looks: after a swap for 0.2 s with TensorFlow, for 2 ms without.
    Before the first version is opened, so that this one can go, too; and once.
    """
    with doing("loading TensorFlow"), suppress_native_stderr():
        import_loading()
    gc.freeze()


def warm(version: Version) -> None:
    """Loads all of a version and asks it for lists of several sizes, from every source: no file is
    read afterwards.

    Raises:
      BadData: its lists are empty, or its vectors or scores are not numbers.
    """
    if version.users is not None:
        version.users.load()
    if version.ranker is not None:
        version.ranker.compile()
    requests = Requests(version.pipeline)
    items = version.ids[: max(_SIZES)].tolist()
    queries = [{"history": items[n : n + 5]} for n in range(max(_SIZES))]
    for source in version.sources:
        for size in _SIZES:
            _check_lists(version, requests.table(queries[:size]), source)
    similar(version, items[0], DEFAULTS)


def _check_lists(version: Version, table: pa.Table, source: str) -> None:
    try:
        # By the rules as well, so that what these need is loaded; caps may let few items through.
        recommend(version, table, ListRequest(source=source))
        plain = ListRequest(exclude_seen=False, source=source, rules=False)
        answer = recommend(version, table, plain)
    except Refused as e:  # of a request of ours, which no towers that work refuse
        raise _damaged(version, "Vectors") from e
    if not len(answer.counts) or answer.counts.min() < min(plain.k, len(version.ids)):
        raise BadData(
            f"A version lists items for everybody; {version.id} answers warm-up queries"
            " with too few."
        )
    if not np.isfinite(answer.scores[answer.rows >= 0]).all():
        raise _damaged(version, "Scores")


def _damaged(version: Version, what: str) -> BadData:
    return BadData(
        f"{what} are finite; those of {version.id} are not. Its towers are damaged: roll back."
    )
