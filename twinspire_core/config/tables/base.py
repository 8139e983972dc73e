"""What every table of the pipeline file is made of: frozen classes, marks of keys, durations."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.config import JsonDict

ADDED: JsonDict = {"added": True}
"""Marks a key of the pipeline file that came after release 0.1.0: `Field(7,
json_schema_extra=ADDED, …)`.

While it holds its default no stage's digest has it, so that the days made before it came stay done
(twinspire/runs/cache_keys.py).
"""


WAS = "was"
BEFORE = "before"
SINCE = "since"


def was(default: int) -> JsonDict:
    """Marks a key of release 0.1.0 that had another default there: `Field(2,
    json_schema_extra=was(1), …)`.

    Where the pipeline file leaves it out, the next training takes the new default, and days that
    were made with the defaults of then stay done (twinspire/runs/cache_keys.py).
    """
    return {WAS: default}


def added(*, before: float, since: int) -> JsonDict:
    """Marks a key that came after release 0.1.0 and whose default changes what is made: `Field(0.9,
    json_schema_extra=added(before=1.0, since=2), …)`.

    Days that were made before the key came are done where the pipeline file leaves it out, or says
    what they were made by. The next training takes the default, and its key says so.

    Args:
      before: the value that says what was done before there was such a key.
      since: the number of the first defaults that have it (`DEFAULTS` in
        twinspire/runs/cache_keys.py).
    """
    return {BEFORE: before, SINCE: since}


class Strict(BaseModel):
    """Base of every table of the pipeline file: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_DURATION = re.compile(r"^(\d+)\s*(s|m|h|d)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    parsed = _DURATION.match(value)
    if not parsed:
        raise ValueError(f"a duration is a number with a unit (90s, 15m, 6h, 2d), found {value!r}")
    return timedelta(seconds=int(parsed[1]) * _SECONDS[parsed[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A number with a unit, such as `90s`, `15m`, `6h` or `2d`."""
