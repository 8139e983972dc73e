"""Bodies of `/v1/events`: what users took, checked whole before any of it counts."""

from datetime import datetime, tzinfo
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from serving.http.bodies import check_distinct, read_object
from serving.http.http_errors import Problem
from serving.requests.value_types import ONE_ITEM_ID
from serving.version.event_buffer import Events
from twinspire_core.errors import shorten, with_full_stop

MOST = 10_000
"""Events of a body."""
_AHEAD = 60
"""Seconds that the clock of whoever sends events may be ahead of the server's."""
_LONGEST = 512
"""Characters of an item's id: events are kept."""
_KINDS = {
    "extra_forbidden": "unknown_key",
    "missing": "missing",
    "too_long": "out_of_range",
    "too_short": "out_of_range",
}
_SHAPE = 'a body is {"events": [{"item": "4711", "time": "2024-04-15T09:30:00Z"}, …]}, time may be left out'
_DEPTH = 3
"""Parts of the longest path to a value that a client knows: `events[0].item`."""
_ItemId: Any = ONE_ITEM_ID.annotation


class EventBody(BaseModel):
    """An event."""

    model_config = ConfigDict(extra="forbid", title="Event")

    item: Annotated[_ItemId, Field(description="What was taken, by its id in the logs.")]
    user: Annotated[
        _ItemId | None,
        Field(
            description="Who took it: any id, the same for all that one visitor takes. What is taken"
            " close together is learnt from it; only a number made of it is kept, in memory."
        ),
    ] = None
    time: Annotated[
        datetime | None,
        Field(
            description="When, in ISO 8601, or in seconds or milliseconds since 1970. Without an"
            " offset it is read in the pipeline's time zone. Left out: now."
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
    """A body."""

    model_config = ConfigDict(extra="forbid", title="Events")

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MOST, fail_fast=True)]


def parse(content: bytes, zone: tzinfo, now: datetime) -> Events:
    """The events of a body.

    Args:
      content: the body.
      zone: of times that have no offset.
      now: the server's clock.

    Raises:
      Problem: what is wrong with one of them; then none counts.
    """
    body = _read(content)
    for number, event in enumerate(body.events):
        if not event.item:  # which logs take for missing, too
            where = f"events[{number}].item"
            raise Problem("out_of_range", "An item's id is not empty.", where=where)
        for key, id_ in (("item", event.item), ("user", event.user or "")):
            if len(id_) > _LONGEST:
                message = f"An id has at most {_LONGEST} characters, found {len(id_):,}."
                raise Problem("out_of_range", message, where=f"events[{number}].{key}")
    times = np.array([_microseconds(event.time or now, zone) for event in body.events])
    ahead = np.flatnonzero(times > _microseconds(now, zone) + _AHEAD * 1_000_000)
    if len(ahead):
        first = int(ahead[0])
        raise Problem(
            "out_of_range",
            f"An event lies in the past; {body.events[first].time} is more than {_AHEAD} s after this"
            f" server's {now:%Y-%m-%d %H:%M:%S %Z}. Times are ISO 8601, seconds or milliseconds since"
            " 1970; or one of the clocks is wrong.",
            where=f"events[{first}].time",
        )
    users = [event.user for event in body.events]
    return Events.of([event.item for event in body.events], times, users)


def _read(content: bytes) -> EventsBody:
    written = read_object(content, 2 * MOST)
    try:
        body = EventsBody.model_validate(written)
    except ValidationError as e:
        raise _explain(e.errors()[0]) from e
    check_distinct(content, [written, *written["events"]])
    return body


def _microseconds(time: datetime, zone: tzinfo) -> int:
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    return round(time.timestamp() * 1_000_000)


def _explain(error: ErrorDetails) -> Problem:
    """What a client is told of pydantic's first error."""
    kind = _KINDS.get(error["type"], "wrong_type")
    place = error["loc"][:_DEPTH]
    key = str(place[-1]) if place else ""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    where = "".join(parts).lstrip(".") or None
    if kind == "unknown_key" and len(place) == 1:
        message = f"{shorten(key)} is no key of a body: {_SHAPE}"
    elif kind == "unknown_key":
        message = f"{shorten(key)} is no key of an event; known: item, time, user"
    elif kind == "missing":
        message = f"{key} is missing: {_SHAPE}"
    elif kind == "wrong_type" and key in ("item", "user"):
        message = f"{key} {ONE_ITEM_ID.expected}; found {shorten(error['input'])}"
    elif kind == "wrong_type" and key == "time":
        message = f"time is ISO 8601, or seconds or milliseconds since 1970; found {shorten(error['input'])}"
    elif kind == "out_of_range":
        message = f"events has 1 to {MOST:,} objects at a time"
    elif kind == "wrong_type":
        message = (
            f"{where or 'A body'} is of another type: {_SHAPE}; found {shorten(error['input'])}"
        )
    else:
        message = f"{error['msg']}; found {shorten(error['input'])}"
    return Problem(kind, with_full_stop(message), where=where)
