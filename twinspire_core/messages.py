"""Words of messages: commands as they can be typed, values that were found, names that may have
been meant.
"""

import re
import reprlib
import shlex
from collections.abc import Collection
from difflib import get_close_matches

_typed = "PIPELINE"
_LONGEST = 60  # characters of a value that is shown
_WORD = 100  # characters of a name that others are compared with
COMPARED = 1_000
"""Names; to compare more of them with a mistyped one takes too long for a message."""

# What comes from outside may be nested too deeply for `repr`, or be megabytes
_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxlist, _brief.maxtuple, _brief.maxdict = 4, 20, 20, 20
_brief.maxstring = _brief.maxlong = _brief.maxother = 2 * _LONGEST


def name_pipeline(typed: str) -> None:
    """Says how this process's user names the pipeline."""
    global _typed
    _typed = shlex.quote(typed)


def format_message(message: object) -> str:
    """The message, with that name in its commands where they say PIPELINE."""
    return re.sub(r"(twinspire [a-z]+ )PIPELINE\b", lambda found: found[1] + _typed, str(message))


def with_full_stop(message: object) -> str:
    """The message with a full stop, where it does not end in a mark of its own."""
    text = str(message)
    return text if text.endswith((".", "?")) else f"{text}."


def shorten(value: object) -> str:
    """A value from outside as it stands in a message: short, whatever it is."""
    text = _brief.repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "…"


def nearest_names(
    name: str, known: Collection[str], most: int = 1, compared: int = COMPARED
) -> list[str]:
    """The known names most like a mistyped one; none where that would take long to find out."""
    if len(name) > _WORD or len(known) > compared:
        return []
    return get_close_matches(name, known, most)
