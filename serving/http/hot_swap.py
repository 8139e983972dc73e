"""The live version. A new one is found, opened and warmed up while the version before answers, and then
replaces it.

Each batch reads `current` once, so that one version answers the whole batch. A version that cannot be opened
or does not answer only sets `failure`. It is tried again at growing intervals.
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
from serving.answers.recommend import recommend, similar
from serving.http.openapi import LoadFailure
from serving.http.prometheus import Metrics
from serving.requests.json_values import Refused
from serving.requests.query_rows import Requests
from serving.requests.request_model import DEFAULTS, ListRequest
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData
from twinspire_core.native_code import import_loading, suppress_native_stderr
from twinspire_core.terminal import doing

# Most seconds between two tries of a version that failed, and between two looks at the files of the one
# that answers.
_LONGEST = 60.0
_SIZES = (1, 8, 64, 1)  # queries of the batches that warm a version up
log = logging.getLogger("twinspire.serve")


@dataclass(frozen=True, slots=True)
class Served:
    """A version that answers, and the time when it began to answer."""

    version: Version
    since: datetime


class LiveVersion:
    """Follows the registry: loads each new live version and lets it answer.

    Args:
      opened: opens a version by its id.
      warm: sends warm-up queries to a version, and raises if it does not answer. Returns the version
        that will answer, which may have new items.
      poll: seconds between two checks of the registry.

    Attributes:
      current: the version that answers; None until the first one is ready.
      loading: id of the version that is being opened and warmed up.
      failure: why the newest live version does not answer; None if the last check went well.
      dropped: set when the last reference to some version is gone.
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
        self.failure: LoadFailure | None = None
        self.dropped = Event()
        self._next_try = 0.0
        self._next_check = 0.0
        self._swap = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._run, name="twinspire-live", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. It waits at most a second for a version that is being loaded."""
        self._stop.set()
        self._thread.join(1)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._poll)
            if self.dropped.is_set():
                self.dropped.clear()
                # A TensorFlow graph is a reference cycle of few, but large objects. The collector counts
                # objects, so by itself it would free the graph only after dozens of versions.
                gc.collect()

    def look(self) -> None:
        """Loads the live version if it is not the one that answers."""
        wanted: str | None = None
        try:
            if self.current:
                # `twinspire prune` on another machine must not delete files that are still read.
                self._registry.keep(self.current.version.home)
            wanted = self._registry.live()
            failed_before = self.failure is not None and self.failure["version"] == wanted
            present = self.current.version.id if self.current else None
            if wanted is None and present:
                raise BadData(
                    f"The registry's log in {self._registry.root} is missing, so the live version is"
                    " unknown. Restore or mount it."
                )
            if wanted is None or wanted == present:
                # This also clears the failure after a rollback of a version that could not be loaded.
                if not failed_before:
                    self.failure = None
                if wanted and time.monotonic() >= self._next_check:
                    self._next_check = time.monotonic() + _LONGEST
                    # It answers from memory, but no server could load it again if it were gone
                    self._registry.manifest(wanted)
                    self.failure = None
            elif not failed_before or time.monotonic() >= self._next_try:
                self._take(wanted)
        except Exception as e:
            # Whatever is wrong with a version or a store, the current version keeps answering.
            self._fail(wanted, e)
        finally:
            self.loading = None

    def _take(self, wanted: str) -> None:
        self.loading = wanted
        started = time.monotonic()
        with doing(f"loading {wanted}"):
            _freeze_imports()
            version = self._open(wanted)
            # Before the swap: a version that does not answer is never served, and no user waits for files.
            version = self._warm(version)
        # The swap is one assignment. Answers that have begun keep the old version.
        with self._swap:
            self.current = Served(version, datetime.now(UTC))
        self.failure = None
        self._metrics.answers_from(version.manifest)
        log.info(
            "%s answers from now on; loading it took %.1f s", wanted, time.monotonic() - started
        )

    def grow(self, version: Version) -> None:
        """Replaces the current version by the same version with new items."""
        with self._swap:
            # Another version may have gone live since the new items were found. It stays.
            current = self.current
            if current and current.version.published is version.published:
                self.current = replace(current, version=version)

    def _fail(self, wanted: str | None, error: Exception) -> None:
        again = self.failure is not None and self.failure["version"] == wanted
        tries = self.failure["tries"] + 1 if self.failure and again else 1
        self.failure = {
            "version": wanted,
            "error": f"{type(error).__name__}: {error}",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "tries": tries,
        }
        # The pause doubles after each failure, because most causes do not go away by themselves.
        self._next_try = time.monotonic() + min(_LONGEST, self._poll * 2**tries)
        self._metrics.failed.inc()
        # Only the first failure is logged: a broken store would fill the log.
        if again:
            return
        if wanted:
            message = f"{wanted} cannot be served"
        else:
            message = "the registry does not say which version is live"
        if self.current:
            message += f"; {self.current.version.id} keeps answering"
        log.error("%s: %s", message, self.failure["error"])


@cache
def _freeze_imports() -> None:
    """Imports the libraries that read versions, and excludes their objects from garbage collection."""
    with doing("loading TensorFlow"), suppress_native_stderr():
        import_loading()
    # A collection stops all threads: for 0.2 s with TensorFlow's objects, for 2 ms without. Before the
    # first version is opened, since a frozen version would never be freed.
    gc.freeze()


def warm(version: Version) -> None:
    """Sends warm-up queries for every source, so that the whole version is loaded and no later request
    reads a file.

    Raises:
      BadData: its lists are too short, or its vectors or scores are not finite.
    """
    if version.users is not None:
        version.users.count()  # loads the explanations
    if version.ranker is not None:
        version.ranker.compile()
    requests = Requests(version.pipeline)
    items = version.ids[: max(_SIZES)].tolist()
    queries = [{"history": items[n : n + 5]} for n in range(max(_SIZES))]
    for source in version.sources:
        # Several sizes, because small and large batches take different paths through the code.
        for size in _SIZES:
            _check_lists(version, requests.table(queries[:size]), source)
    similar(version, items[0], DEFAULTS)


def _check_lists(version: Version, table: pa.Table, source: str) -> None:
    try:
        # With the rules, too, so that their data is loaded. Their lists are not checked, because caps may
        # shorten them.
        recommend(version, table, ListRequest(source=source))
        plain = ListRequest(exclude_seen=False, source=source, rules=False)
        answer = recommend(version, table, plain)
    except Refused as e:  # an ordinary request, which sound towers never refuse
        raise _damaged(version, "Vectors") from e
    if not len(answer.counts) or answer.counts.min() < min(plain.k, len(version.ids)):
        raise BadData(
            f"A version must return items for every query; {version.id} returned too few for a"
            " warm-up query. Its index or its items are damaged. Roll back."
        )
    if not np.isfinite(answer.scores[answer.rows >= 0]).all():
        raise _damaged(version, "Scores")


def _damaged(version: Version, subject: str) -> BadData:
    return BadData(
        f"{subject} must be finite; those of {version.id} are not. Its towers are damaged. Roll back."
    )
