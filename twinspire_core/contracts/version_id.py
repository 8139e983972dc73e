"""A version's id: its day, and a digest of the files that it consists of. Equal content has an equal id."""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_EDITIONS = 100  # so often was one content pruned and published again


def version_id(
    pipeline: str, day: datetime.date, digests: Mapping[str, str], edition: int = 1
) -> str:
    """The id of a version by its content.

    Args:
      pipeline: name of the recommender.
      day: the day it was trained up to.
      digests: SHA-256 in hex of every file but the manifest and the report, by path.
      edition: more than 1 gives equal content another id, where the first was pruned.

    Example:
      >>> version_id("shop", datetime.date(2017, 10, 16), {"index.json": "ab"})[:11]
      '2017-10-16-'
    """
    named: list[Any] = [pipeline, str(day), sorted(digests.items())]
    content = json.dumps(named if edition == 1 else [*named, edition])
    return f"{day}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def is_id_of(version: str, pipeline: str, day: datetime.date, digests: Mapping[str, str]) -> bool:
    """Whether a version's id follows from its content; see `version_id`. Its edition is stored
    nowhere: the first `_EDITIONS` are tried.
    """
    return any(
        version == version_id(pipeline, day, digests, edition)
        for edition in range(1, _EDITIONS + 1)
    )


def is_id(text: str) -> bool:
    """Whether it has the form of a version's id: nothing else may become part of a path."""
    return re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{8}", text) is not None
