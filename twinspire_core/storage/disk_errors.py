"""What an error of a disk, however a library has wrapped it, asks of the caller."""

import errno
import os
from collections.abc import Iterator

from twinspire_core.errors import TryAgain, TwinspireError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# Libraries in C++ tell only the text.
_FULL_TEXTS = tuple(os.strerror(code) for code in _FULL)
_READ_ONLY_TEXT = os.strerror(errno.EROFS)
_LONGEST = 300  # characters of an error


def explain(error: BaseException) -> TwinspireError | None:
    """The project's error for one whose cause, however deep, is a full, read-only or forbidden
    disk.

    Args:
      error: any; also one that came up while another was dealt with.

    Returns:
      None for an error that is the project's own already, and for one of another cause.
    """
    if isinstance(error, TwinspireError) or not isinstance(error, Exception):
        return None
    # What came first is what it is about: cleaning up after it fails by the same disk.
    for cause in reversed(list(_chain(error))):
        text = str(cause)
        code = cause.errno if isinstance(cause, OSError) else None
        told = (text.splitlines() or [type(cause).__name__])[0][:_LONGEST]
        if code in _FULL or any(one in text for one in _FULL_TEXTS):
            return TryAgain(
                f"Stages need room in work_root, in registry.root and for scratch files (TMPDIR), and"
                f" one was full: {told}. What is published is as it was. Make room (`twinspire prune"
                " PIPELINE --yes` deletes what is old), then run the same command again."
            )
        if code in _CLOSED or _READ_ONLY_TEXT in text:
            return UsageError(
                "Stages read logs, and write in work_root, in registry.root and scratch files"
                f" (TMPDIR); one of them is closed to this account: {told}. What is published is as"
                " it was. Mount it for writing, or change who may use it; then run the same command"
                " again."
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
