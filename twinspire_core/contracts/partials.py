"""Partials: what was made of a day's logs, kept for the runs of later days.

    <work_root>/<pipeline>/partials/dt=D/<kind>-<key>-<part>-of-<parts>.arrow

They live apart from attempts: any run may write one, and any run may use it. Invariants:
  1. The key is the digest of all that the content is a function of: the digests of its files, the
  settings that it depends on, the format. So a partial is never stale and never changed.
  2. No key of a stage depends on partials: all that one depends on is the same without them.
  3. A file ends with a digest of what is before it. One that is damaged counts as one that is not
  there, and is made again.
docs/decisions/0008-feature-job.md
"""

import hashlib
import re
from collections import defaultdict
from datetime import date

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts

FOLDER = "partials"
_SEAL_BYTES = 32
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d+)-of-(?P<parts>\d+)\.arrow")


def place(pipeline: Pipeline) -> str:
    """The folder of a pipeline's partials."""
    return attempts.place(pipeline, FOLDER)


def stem(folder: str, day: date, kind: str, key: str) -> str:
    """The URI that all parts of one partial begin with.

    Args:
      folder: of all partials.
      day: whose logs went into it.
      kind: what it is.
      key: digest of all that it is a function of.
    """
    return storage.join(folder, f"dt={day}", f"{kind}-{key}")


def uri(stem: str, part: int, parts: int) -> str:
    """The file of a part, counted from 0."""
    return f"{stem}-{part}-of-{parts}.arrow"


def whole(folder: str) -> dict[str, int]:
    """The partials of a folder of which all parts are there: how many parts each has, by stem."""
    found: dict[tuple[str, int], set[int]] = defaultdict(set)
    for file in storage.list_files(folder):
        if named := _PART.fullmatch(file.path):
            beginning = storage.join(folder, named["stem"])
            found[beginning, int(named["parts"])].add(int(named["part"]))
    return {
        beginning: parts
        for (beginning, parts), there in sorted(found.items())
        if there == set(range(parts))
    }


def by_day(folder: str) -> dict[date, int]:
    """Bytes that are kept of each day, oldest first."""
    sizes: dict[date, int] = defaultdict(int)
    for file in storage.list_files(folder):
        if day := attempts.day_of(file.path.rpartition("/")[0]):
            sizes[day] += file.size
    return dict(sorted(sizes.items()))


def write(uri: str, content: bytes) -> None:
    """Writes a file, whole or not at all; what is there, whole or damaged, gives way to it.

    Whichever of two runs writes last, what both read of it comes to the same.
    """
    storage.write_bytes(uri, content + hashlib.sha256(content).digest())


def read(uri: str) -> memoryview | None:
    """The content of a file; None where there is none, or a damaged one."""
    try:
        sealed = memoryview(storage.read_bytes(uri))
    except FileNotFoundError:
        return None  # pruned meanwhile
    content = sealed[:-_SEAL_BYTES]
    if hashlib.sha256(content).digest() != sealed[-_SEAL_BYTES:]:
        return None
    return content
