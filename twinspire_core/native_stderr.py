"""Native libraries write to standard error as they please; this keeps it back where it only
confuses.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from threading import Lock
from typing import NamedTuple


class _Aside(NamedTuple):
    """Where standard error went, and where it goes meanwhile."""

    kept: int
    file: FileIO


_lock, _inside = Lock(), 0
_aside: _Aside | None = None


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Keeps back what is written to standard error, by whatever means; it is told, once, if the
    block fails.

    Where it cannot be kept back, on a full disk say, it is heard at once. It holds for the whole
    process, until the last of several blocks has ended, of whatever thread: so use it around
    loading a library, not around work that reports progress.
    """
    _begin()
    try:
        yield
    except BaseException:
        _tell()
        raise
    finally:
        _end()


def _begin() -> None:
    global _inside, _aside
    with _lock:
        if not _inside:
            _aside = _put_aside()
        _inside += 1


def _put_aside() -> _Aside | None:
    """None where there is no standard error, or no file to keep it in."""
    _flush()
    with suppress(OSError), ExitStack() as opened:
        kept = os.dup(2)
        opened.callback(os.close, kept)
        file = opened.enter_context(tempfile.TemporaryFile(buffering=0))
        os.dup2(file.fileno(), 2)
        opened.pop_all()
        return _Aside(kept, file)
    return None


def _flush() -> None:
    # It may be None, be on a full disk, or be closed
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()


def _tell() -> None:
    with _lock:
        if _aside:
            _flush()
            _aside.file.seek(0)
            os.write(_aside.kept, _aside.file.read())
            _aside.file.seek(0)  # a block around this one, or beside it, may fail too
            _aside.file.truncate()


def _end() -> None:
    global _inside, _aside
    with _lock:
        _inside -= 1
        if _inside or not _aside:
            return
        _flush()
        os.dup2(_aside.kept, 2)
        os.close(_aside.kept)
        _aside.file.close()
        _aside = None
