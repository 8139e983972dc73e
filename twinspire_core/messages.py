"""What messages are made of: commands as they can be typed, values that were found, names that may
have been meant.
"""

import re
import reprlib
import shlex
from collections.abc import Collection, Sequence
from difflib import get_close_matches

COMPARED = 1_000
"""The most names that a mistyped one is compared with: more take too long for a message."""

_LONGEST_VALUE = 60  # characters of a value that is shown
_LONGEST_NAME = 100  # characters of a name that others are compared with

# A value from outside may be nested too deeply for `repr`, or be megabytes.
_brief = reprlib.Repr()
_brief.maxlevel = 4
_brief.maxlist = _brief.maxtuple = _brief.maxdict = 20
_brief.maxstring = _brief.maxlong = _brief.maxother = 2 * _LONGEST_VALUE

_typed = "PIPELINE"


def name_pipeline(typed: str) -> None:
    """Sets how messages of this process name the pipeline file: as its user typed it."""
    global _typed
    _typed = shlex.quote(typed)


def format_message(message: object) -> str:
    """The message, with the pipeline file that was typed where its commands say PIPELINE."""
    # A function, as the name may hold backslashes.
    return re.sub(r"(twinspire [a-z-]+ )PIPELINE\b", lambda match: match[1] + _typed, str(message))


def with_full_stop(message: object) -> str:
    """The message with a full stop, unless it ends in one or in a question mark."""
    text = str(message)
    return text if text.endswith((".", "?")) else f"{text}."


def shorten(value: object) -> str:
    """A value from outside as a message shows it: short, whatever it is."""
    text = _brief.repr(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    return text[: _LONGEST_VALUE - 3] + "…"


def listed(names: Sequence[str], most: int = 5, separator: str = ", ") -> str:
    """The first of some names, and how many more there are.

    Example:
      >>> listed(["a", "b", "c"], 2)
      'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def nearest_names(
    name: str, known: Collection[str], most: int = 1, compared: int = COMPARED
) -> list[str]:
    """The known names most like a mistyped one; none where comparing them would take long."""
    if len(name) > _LONGEST_NAME or len(known) > compared:
        return []
    return get_close_matches(name, known, most)
