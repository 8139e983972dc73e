"""Live events (`/v1/events`): their bodies, checked whole before any event counts, and the thread that
feeds them to the version that answers.
"""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from threading import Event, Thread
from typing import Annotated, Any
from weakref import ref

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from serving.answers.recommend import recommend
from serving.http.http_errors import Problem
from serving.http.openapi import EventsAnswer
from serving.http.prometheus import Metrics
from serving.requests.json_values import ONE_ITEM_ID
from serving.requests.request_model import ListRequest
from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.live_updates import VersionUpdater
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import FIXED_ORDER
from twinspire_core.errors import shorten, with_full_stop

MOST = 10_000
"""Most events of a body."""
# Seconds that a sender's clock may be ahead of the server's. An event of tomorrow would outweigh
# all others until then.
_AHEAD = 60
# Most characters of an item's id, because events are kept in memory.
_LONGEST = 512
# Least seconds between two updates, because sorting a million items takes half a second.
_INTERVAL = 1.0
_KINDS = {
    "extra_forbidden": "unknown_key",
    "missing": "missing",
    "too_long": "out_of_range",
    "too_short": "out_of_range",
}
_SHAPE = (
    'send {"events": [{"item": "4711", "user": "7", "time": "2024-04-15T09:30:00Z"}, …]}; user and'
    " time are optional"
)
_MEANT = {
    "events": f"events must be a list of 1 to {MOST:,} objects",
    "item": f"item must be a string of 1 to {_LONGEST} characters",
    "user": f"user must be a string of at most {_LONGEST} characters",
    "time": "time must be in ISO 8601, or in seconds or milliseconds since 1970",
}
# Parts of the longest path that clients know, `events[0].item`. Pydantic's paths continue with its own
# types, which say nothing to clients.
_DEPTH = 3
_ItemId: Any = ONE_ITEM_ID.annotation
log = logging.getLogger("twinspire.serve")


class EventBody(BaseModel):
    """An event."""

    model_config = ConfigDict(extra="forbid", title="Event")

    # In logs, too, an empty id is a missing one.
    item: Annotated[
        _ItemId,
        Field(
            min_length=1,
            max_length=_LONGEST,
            description="The id of the item that was taken, as in the logs.",
        ),
    ]
    user: Annotated[
        _ItemId | None,
        Field(
            max_length=_LONGEST,
            description="Any id that stays the same for a visitor. Co-occurrence is learned from it. The"
            " server keeps only a number in its place, in memory.",
        ),
    ] = None
    time: Annotated[
        datetime | None,
        Field(
            description="In ISO 8601, or in seconds or milliseconds since 1970. Without an offset, in the"
            " pipeline's time zone. Default: now."
        ),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "format": "date-time"},
                    {"type": "number"},
                    {"type": "null"},
                ]
            }
        ),
    ] = None


class EventsBody(BaseModel):
    """A body of `/v1/events`."""

    model_config = ConfigDict(extra="forbid", title="Events")

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MOST, fail_fast=True)]


def parse_events(body: Mapping[str, Any], zone: tzinfo, now: datetime) -> Events:
    """The events in a body.

    Args:
      zone: time zone of times without an offset.
      now: the time of events without one, by the server's clock.

    Raises:
      Problem: one event is wrong. Then no event of the body counts.
    """
    try:
        events = EventsBody.model_validate(body).events
    except ValidationError as e:
        raise _explain(e.errors()[0]) from e
    # Events without a time are of now, all of the same moment.
    times = np.array([_microseconds(event.time or now, zone) for event in events])
    ahead = np.flatnonzero(times > _microseconds(now, zone) + _AHEAD * 1_000_000)
    if len(ahead):
        first = int(ahead[0])
        raise Problem(
            "out_of_range",
            f"An event must not be in the future; {events[first].time} is more than {_AHEAD} s"
            f" after this server's {now:%Y-%m-%d %H:%M:%S %Z}. Check the clocks, and that times are in"
            " ISO 8601, or in seconds or milliseconds since 1970.",
            where=f"events[{first}].time",
        )
    users = [event.user for event in events]
    return Events.of([event.item for event in events], times, users)


def _microseconds(moment: datetime, zone: tzinfo) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return round(moment.timestamp() * 1_000_000)


def _explain(error: ErrorDetails) -> Problem:
    """The error answer for pydantic's first error."""
    kind = _KINDS.get(error["type"], "wrong_type")
    path = error["loc"][:_DEPTH]
    key = str(path[-1])
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    where = "".join(parts).lstrip(".")
    if kind == "unknown_key":
        holder = "a body" if len(path) == 1 else "an event"
        message = f"{shorten(key)} is not a key of {holder}; {_SHAPE}"
    elif kind == "missing":
        message = f"{key} is missing; {_SHAPE}"
    else:
        meant = _MEANT.get(key, f"{where} must be an object: {_SHAPE}")
        # Of what is too long, its length says more than its start.
        given = error.get("ctx", {}).get("actual_length", shorten(error["input"]))
        message = f"{meant}; found {given}"
    return Problem(kind, with_full_stop(message), where=where)


class EventFeed:
    """Keeps the events that the server receives, and feeds them to the version that answers.

    Args:
      most: most events that are kept.
      new_items: most new items that may be added to a version.
      grown: called with a version to which new items were added. It replaces the same version without
        them.
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
        # The grown version that has answered a first request, by a weak reference: nothing here may
        # keep a version that was swapped out in memory.
        self._warmed: Callable[[], Version | None] = lambda: None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="twinspire-events", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        # It may be fitting a source, for which the end of the server must not wait
        self._stop.set()
        self._thread.join(1)

    def follow(self, version: Version, warm: Callable[[Version], None]) -> Version:
        """Updates the next version with all events, those kept and later ones. The previous version gets no
        more events.

        Args:
          version: the version as it was published.
          warm: sends warm-up queries to the version, and raises if it does not answer. Until then, events
            still update the version before.

        Returns: the version with its new items.
        """
        updater = VersionUpdater(version, self._events, _now(), self._new_items)
        self._update(updater)
        warm(version)  # takes seconds, in which more events come
        self._update(updater)
        # Only now: a version that failed to warm up must not take the events from the one that answers.
        self._following = updater
        return updater.version

    def take(self, version: Version, events: Events) -> EventsAnswer:
        """Keeps events. Lists use them within a second.

        Args:
          version: the version that answers, which may know some of the items, or none.
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
                answer["notes"] = [
                    "the lists of this version do not use events: add popular to sources.use in the"
                    " pipeline file"
                ]
        return answer

    def _run(self) -> None:
        took = 0.0
        # Waits at least as long as an update takes: half of a processor stays for answers.
        while not self._stop.wait(max(_INTERVAL, took)):
            begin = time.monotonic()
            if self._following:
                self._update(self._following)
            took = time.monotonic() - begin

    def _update(self, updater: VersionUpdater) -> None:
        try:
            updater.update(_now())
            version = updater.version
            if version is not version.published and version is not self._warmed():
                # A grown version makes its tables for the first request: not at a user's cost.
                recommend(version, [{}], ListRequest(k=1, source=FIXED_ORDER))
                self._warmed = ref(version)
            self._grown(version)
            self._failing = False
        except Exception:
            # Lists stay as they are, and the next update counts what this one did not.
            self._metrics.event_failures.inc()
            if not self._failing:  # the same fault is logged once, and not each second
                log.exception(
                    "events could not be counted; the lists of %s are older", updater.version.id
                )
            self._failing = True


def _now() -> int:
    return time.time_ns() // 1000
