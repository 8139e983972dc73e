"""Commands in messages, as they can be typed: with the pipeline named as on the command line."""

import re
import shlex

_typed = "PIPELINE"


def name_pipeline(typed: str) -> None:
    """Says how this process's user names the pipeline."""
    global _typed
    _typed = shlex.quote(typed)


def said(message: object) -> str:
    """The message, with that name in its commands where they say PIPELINE."""
    return re.sub(r"(twinspire [a-z]+ )PIPELINE\b", lambda found: found[1] + _typed, str(message))
