"""Native libraries write to standard error as they please; this keeps it back where it only confuses."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO, NamedTuple


class _Aside(NamedTuple):
    """Where standard error went, and where it goes meanwhile."""

    kept: int
    file: BinaryIO


_lock, _inside = Lock(), 0
_aside: _Aside | None = None


@contextmanager
def unheard() -> Iterator[None]:
    """Keeps back what is written to standard error, by whatever means; it is told if the block fails.

    It holds for the whole process, until the last of several blocks has ended, of whatever thread: so use it around
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
        _inside += 1
        if _inside > 1:
            return
        sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            return
        _aside = _Aside(kept, tempfile.TemporaryFile())  # noqa: SIM115
        os.dup2(_aside.file.fileno(), 2)


def _tell() -> None:
    with _lock:
        if _aside:
            sys.stderr.flush()
            _aside.file.seek(0)
            os.write(_aside.kept, _aside.file.read())


def _end() -> None:
    global _inside, _aside
    with _lock:
        _inside -= 1
        if _inside or not _aside:
            return
        sys.stderr.flush()
        os.dup2(_aside.kept, 2)
        os.close(_aside.kept)
        _aside.file.close()
        _aside = None
