"""Partials: intermediate results of a day's logs, kept for the runs of later days.

    <work_root>/<pipeline>/partials/dt=D/<kind>-<key>-<part>-of-<parts>.arrow

Any run may write one, and any run may use it, so they are kept apart from attempts. Invariants:
  1. The key is the digest of everything that the content is a function of: the digests of the files, the
  settings, the format. So a partial is never stale and never changed.
  2. No key of a stage depends on partials: the output is the same without them.
  3. A file ends with a digest of its content. A damaged one counts as missing, and is made again.
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
      folder: the folder of all partials.
      day: the day of the logs that it is made from.
      kind: names what the partial holds.
      key: digest of everything that its content is a function of.
    """
    return storage.join(folder, f"dt={day}", f"{kind}-{key}")


def uri(stem: str, part: int, parts: int) -> str:
    """The file of a part, counted from 0."""
    return f"{stem}-{part}-of-{parts}.arrow"


def whole(folder: str) -> dict[str, int]:
    """The partials of a folder that are complete: the number of parts of each, by stem."""
    # By the number of parts as well: a day that was cut into another number of parts before may have left
    # some of those.
    present: dict[tuple[str, int], set[int]] = defaultdict(set)
    for file in storage.list_files(folder):
        if match := _PART.fullmatch(file.path):
            present[match["stem"], int(match["parts"])].add(int(match["part"]))
    return {
        storage.join(folder, stem): parts
        for (stem, parts), numbers in sorted(present.items())
        if numbers == set(range(parts))
    }


def by_day(folder: str) -> dict[date, int]:
    """Bytes of the partials of each day, oldest day first."""
    sizes: dict[date, int] = defaultdict(int)
    for file in storage.list_files(folder):
        if day := attempts.day_of(file.path.rpartition("/")[0]):
            sizes[day] += file.size
    return dict(sorted(sizes.items()))


def write(uri: str, content: bytes) -> None:
    """Writes a file, whole or not at all, in place of any that is there.

    Two runs that write the same file write the same content, so it does not matter which is last.
    """
    storage.write_bytes(uri, content + hashlib.sha256(content).digest())


def read(uri: str) -> memoryview | None:
    """The content of a file; None where it is missing or damaged."""
    try:
        # A view, as partials are large: slicing bytes would copy them.
        sealed = memoryview(storage.read_bytes(uri))
    except FileNotFoundError:
        return None  # deleted by a prune meanwhile
    content = sealed[:-_SEAL_BYTES]
    if hashlib.sha256(content).digest() != sealed[-_SEAL_BYTES:]:
        return None
    return content
