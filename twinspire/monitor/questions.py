"""What the monitor asks: for users that the version knows, and for made-up ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.version.loaded_version import Version

K = 10
"""Items of each list."""
_HISTORY = 5
_STRANGER = "a user whom nobody knows"


@dataclass(frozen=True, slots=True)
class Question:
    """A query of `/v1/recommend`.

    Attributes:
      of: whom it is about, for people; who they are is nobody's affair.
      query: as clients send it.
    """

    of: str
    query: dict[str, Any]


def questions(version: Version, most: int, draw: np.random.Generator) -> list[Question]:
    """Users that the version carries, users made up of items of its catalogue, and two of whom
    nothing is known.

    Args:
      version: what is live.
      most: users of either kind.
      draw: what chooses among items.
    """
    asked = [Question("nobody", {})]
    if version.pipeline.user_id or version.users is not None:
        asked.append(Question("a stranger", {"user": _STRANGER}))
    if version.users is not None:
        for user in version.users.some(most):
            asked.append(Question("stored users", {"user": user}))
    if version.pipeline.history is not None:
        length = min(_HISTORY, version.pipeline.history.length, len(version.ids))
        for _ in range(most):
            items = draw.choice(version.ids, length, replace=False).tolist()
            asked.append(Question("made-up users", {"history": items}))
    return asked
