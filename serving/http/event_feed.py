"""What a server does with the events that it is sent: it keeps them, and a thread of its own feeds them
to the live version.
"""

import logging
import time
from collections.abc import Callable
from threading import Event, Thread
from weakref import ref

import numpy as np

from serving.answers.recommend import recommend
from serving.http.answer_models import EventsAnswer
from serving.http.prometheus import Metrics
from serving.requests.list_request import ListRequest
from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.loaded_version import Version
from serving.version.version_updates import VersionUpdater
from twinspire_core.config.source_names import FIXED_ORDER

_INTERVAL = 1.0
"""Seconds between two updates, at least: sorting a million items takes half of that."""
_MOVES_NOTHING = (
    "what this version serves uses no events: name popular in sources.use of the pipeline file"
)
log = logging.getLogger("twinspire.serve")


class EventFeed:
    """Feeds the events that one server is sent to the version that answers.

    Args:
      most: how many events are kept.
      new_items: how many items that came after a version are taken up at the most.
      grown: has a version answer in place of the same version with fewer items, if that does.
      metrics: the server's.
    """

    def __init__(
        self, most: int, new_items: int, grown: Callable[[Version], None], metrics: Metrics
    ) -> None:
        self._events = EventBuffer(most)
        self._new_items = new_items
        self._grown = grown
        self._metrics = metrics
        self._following: VersionUpdater | None = None
        self._failing = False
        # The grown version that was seen to answer. Nothing keeps one that was swapped.
        self._asked: Callable[[], Version | None] = lambda: None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="twinspire-events", daemon=True)

    def start(self) -> None:
        """Starts to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join(1)

    def follow(self, version: Version, warm: Callable[[Version], None]) -> Version:
        """Brings a version up to the events, now and from now on; the one before is left as it is then.

        Args:
          version: the next to answer.
          warm: asks it what users will ask; raises if it does not answer. Until it has, the one before
            goes on to be followed.

        Returns: the version, with the items that it lacked.
        """
        updater = VersionUpdater(version, self._events, _now(), self._new_items)
        self._update(updater)
        warm(version)
        self._update(updater)
        self._following = updater
        return updater.version

    def take(self, version: Version, events: Events) -> EventsAnswer:
        """Takes events; lists use them within a second.

        Args:
          version: what answers.
          events: what was taken.
        """
        self._events.add(events)
        self._metrics.events.inc(len(events.items))
        self._metrics.events_of_users.inc(int(np.count_nonzero(events.users != NOBODY)))
        self._metrics.newest_event.set(int(events.times.max()) / 1e6)
        following = self._following
        answer: EventsAnswer = {
            "version": version.id,
            "taken": len(events.items),
            "unknown_items": int((version.rows(events.items) < 0).sum()),
            "before_version": 0,
        }
        if following:
            answer["before_version"] = int(np.count_nonzero(events.times < following.since))
            if not following.moves_lists:
                answer["notes"] = [_MOVES_NOTHING]
        return answer

    def _run(self) -> None:
        took = 0.0
        # As long as an update takes, at least: half of a processor is for the answers.
        while not self._stop.wait(max(_INTERVAL, took)):
            begin = time.monotonic()
            if self._following:
                self._update(self._following)
            took = time.monotonic() - begin

    def _update(self, updater: VersionUpdater) -> None:
        try:
            updater.update(_now())
            version = updater.version
            if version is not version.published and version is not self._asked():
                # What is made when it is first asked for is there when it answers.
                recommend(version, [{}], ListRequest(k=1, source=FIXED_ORDER))
                self._asked = ref(version)
            self._grown(version)
            self._failing = False
        except Exception:
            # Lists stay as they are, and the next update counts what this one did not.
            self._metrics.event_failures.inc()
            if not self._failing:  # it has been logged, a second ago
                log.exception(
                    "events could not be counted; the lists of %s are older", updater.version.id
                )
            self._failing = True


def _now() -> int:
    return time.time_ns() // 1000
