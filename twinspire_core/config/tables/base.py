"""Parts of all tables of the pipeline file: their frozen base class, durations, places."""

import os
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from twinspire_core import storage
from twinspire_core.errors import UsageError

BASIC: dict[str, JsonValue] = {"x-basic": True}
"""For `json_schema_extra`: marks the keys that a newcomer sets. All others are advanced."""


class Strict(BaseModel):
    """Base of every table of the pipeline file: it is frozen, unknown keys are errors, and a value keeps
    the type that TOML gives it (`"20"` is a text, not a number).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, tables: Any) -> Any:
        # TOML has no tuples, and pydantic does not accept lists for them where types are strict.
        return _with_tuples(tables)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


_DURATION = re.compile(r"^(\d+)\s*(s|m|h|d)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    # A default, or a value that was converted before.
    if isinstance(value, timedelta):
        return value
    parsed = _DURATION.match(value) if isinstance(value, str) else None
    if not parsed:
        raise ValueError(
            f"a duration must be a number with a unit (90s, 15m, 6h, 2d); found {value!r}"
        )
    return timedelta(seconds=int(parsed[1]) * _SECONDS[parsed[2]])


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern}),
]
"""A number with a unit, such as `90s`, `15m`, `6h` or `2d`."""


def _place(value: str, info: ValidationInfo) -> str:
    """A place, where a relative path starts at the file's folder, which the context says."""
    try:
        is_path = not storage.is_remote(value)
    except UsageError as error:
        raise ValueError(str(error)) from error
    if not is_path or not info.context:
        return value
    # normpath drops a closing slash, which a folder of a day may have.
    return os.path.normpath(info.context / value) + ("/" if value.endswith("/") else "")


Place = Annotated[str, AfterValidator(_place)]
"""A local path, or a URI of an object store."""
