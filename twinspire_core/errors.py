"""Errors. The class says what the caller should do next. The message names the rule, the value found, the
likely cause and the remedy.
"""

import re
import reprlib
import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any

# Characters of an error that is shown in a list of others.
_LONGEST_LINE = 400


class TwinspireError(Exception):
    """Base of the errors that a command reports without a traceback."""

    exit_code = 1

    def facts(self) -> dict[str, Any]:
        """Further keys of the command's last line of JSON, besides the reason."""
        return {}


class JobFailed(TwinspireError):
    """Look at the log that the message names: a step failed on a worker of `beam.options`."""


class UsageError(TwinspireError):
    """Change the command or the pipeline file."""

    exit_code = 2


class BadData(TwinspireError):
    """Correct the input data."""

    exit_code = 3


class GateRefused(TwinspireError):
    """Look at the refused version: it is stored, but not live."""

    exit_code = 4
    followed_by: str | None = None
    """The version that went live instead, with the day's catalogue; None if none did."""

    def __init__(
        self, message: str, addresses: Mapping[str, str] | None = None, *, is_found: bool = False
    ) -> None:
        """Takes the reason, the addresses of the refused version if there is one, and whether it was
        refused by an earlier run (`is_found`).
        """
        super().__init__(message)
        self.addresses = addresses or {}
        self.is_found = is_found

    def facts(self) -> dict[str, Any]:
        """Where the refused version is, and the version that went live instead."""
        live = {"live_version": self.followed_by} if self.followed_by else {}
        return {**self.addresses, **live}


class Unwell(TwinspireError):
    """Look at the live version: it is too old, or its lists are empty or all the same."""

    exit_code = 5


class TryAgain(TwinspireError):
    """Run the same command again later."""

    exit_code = 75


class RunnerFailed(TwinspireError):
    """Run the same command again: the runner in `beam.options` failed, not the job."""

    exit_code = 75


class NotItsTurn(TryAgain):
    """Run the same command again when the earlier days that it names have ended."""

    def __init__(self, message: str, waits_for: Sequence[date]) -> None:
        """Takes the reason, and the days to wait for."""
        super().__init__(message)
        self.waits_for = waits_for

    def facts(self) -> dict[str, Any]:
        """The days to wait for, so that a scheduler knows how far back in the queue a run is."""
        return {"waits_for": [str(day) for day in self.waits_for]}


class ParentChanged(TryAgain):
    """Train the day again: its parent changed, because a version was rolled back or a gap was filled."""


class LogsLate(TryAgain):
    """Run the day again when its logs are there."""


class NothingToDo(TwinspireError):
    """Continue: there is nothing to do for this day."""

    exit_code = 99


def in_one_line(error: BaseException) -> str:
    """An error's message, short enough for a list of errors.

    Example:
      >>> in_one_line(KeyError("a"))
      "KeyError: 'a'"
    """
    text = " ".join(str(error).split())
    if not isinstance(error, TwinspireError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"


COMPARED = 1_000
"""Most names that a mistyped one is compared with. More would delay the message."""

_LONGEST_VALUE = 60  # characters of a value that is shown
_LONGEST_NAME = 100  # characters of a name that others are compared with

# A value from outside may be nested too deeply for `repr`, or be megabytes.
_brief = reprlib.Repr()
_brief.maxlevel = 4
_brief.maxlist = _brief.maxtuple = _brief.maxdict = 20
_brief.maxstring = _brief.maxlong = _brief.maxother = 2 * _LONGEST_VALUE

_typed = "PIPELINE"


def name_pipeline(typed: str) -> None:
    """Sets the name of the pipeline file in messages of this process: as the user typed it."""
    global _typed
    _typed = shlex.quote(typed)


def format_message(message: object) -> str:
    """The message, with PIPELINE in its commands replaced by the pipeline file that the user typed."""
    # A function, as the name may hold backslashes.
    return re.sub(r"(twinspire [a-z-]+ )PIPELINE\b", lambda match: match[1] + _typed, str(message))


def with_full_stop(message: object) -> str:
    """The message with a full stop, unless it ends in one or in a question mark."""
    text = str(message)
    return text if text.endswith((".", "?")) else f"{text}."


def shorten(value: object) -> str:
    """A value from outside, shortened for a message."""
    text = _brief.repr(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    return text[: _LONGEST_VALUE - 3] + "…"


def listed(names: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """The first names, and how many more there are.

    Example:
      >>> listed(["a", "b", "c"], 2)
      'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def nearest_names(
    name: str, names: Collection[str], most: int = 1, compared: int = COMPARED
) -> list[str]:
    """The known names most similar to a mistyped one; none if comparing them would take long."""
    # Comparing takes time with the square of the lengths.
    if len(name) > _LONGEST_NAME or len(names) > compared:
        return []
    return get_close_matches(name, names, most)


def zone_hint(name: str, zones: Collection[str]) -> str:
    """What to write instead of a name that is no IANA time zone; empty if nothing is known."""
    # `CEST` is half a year of many places; the most similar zone, `EST`, is six hours away
    if name.isupper() and len(name) <= 5:
        return "; name a place, such as 'Europe/Berlin', whose clock also follows summer time"
    return did_you_mean(name, zones, "; ")


def did_you_mean(name: str, names: Collection[str], before: str = "") -> str:
    """A question that proposes a known name for a mistyped one, with `before` in front; empty if no name
    is similar.

    Example:
      >>> did_you_mean("itms", ["items", "users"], "; ")
      "; did you mean 'items'?"
    """
    near = nearest_names(name, names)
    return f"{before}did you mean {near[0]!r}?" if near else ""
