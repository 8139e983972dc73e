"""Keeps back what native libraries write to standard error where it would only confuse."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from threading import Lock
from typing import NamedTuple

from twinspire_core.terminal import console


class _Redirection(NamedTuple):
    """Standard error, redirected.

    Attributes:
      original: a descriptor of where it went before.
      file: where it goes meanwhile.
      undo: what closes and puts back everything.
    """

    original: int
    file: FileIO
    undo: ExitStack


_lock = Lock()
_open_blocks = 0
_redirection: _Redirection | None = None


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Keeps back what is written to standard error, by whatever means. If the block fails, it is
    written after all, once.

    Where there is no room to keep it, as on a full disk, it is written at once. The redirection
    holds for the whole process, until the last of several blocks has ended, of whatever thread: so
    use it around loading a library, not around work that reports progress.
    """
    global _open_blocks, _redirection
    with _lock:
        _flush()
        if not _open_blocks:
            _redirection = _redirect()
        _open_blocks += 1
    try:
        yield
    except BaseException:
        with _lock:
            _write_kept()
        raise
    finally:
        with _lock:
            _flush()
            _open_blocks -= 1
            if _redirection and not _open_blocks:
                _redirection.undo.close()


def _redirect() -> _Redirection | None:
    """Redirects standard error; None where there is none, or no file to keep it in."""
    with suppress(OSError), ExitStack() as undo:
        original = os.dup(2)
        undo.callback(os.close, original)
        file = undo.enter_context(tempfile.TemporaryFile(buffering=0))
        if console.is_terminal:
            # Where a line that tells people what is being done goes on. It is closed when nobody
            # refers to it: the line may be writing to it just then.
            console.file = os.fdopen(os.dup(original), "w")
            undo.callback(setattr, console, "file", None)
            undo.callback(setattr, sys, "stderr", sys.stderr)
            # While the line moves, `sys.stderr` is a way to the console.
            sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        undo.callback(os.dup2, original, 2)
        os.dup2(file.fileno(), 2)
        return _Redirection(original, file, undo.pop_all())
    return None


def _flush() -> None:
    # sys.stderr may be None, be on a full disk, or be closed.
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()


def _write_kept() -> None:
    if _redirection:
        _flush()
        _redirection.file.seek(0)
        os.write(_redirection.original, _redirection.file.read())
        # A block around this one, or beside it, may fail too: nothing is written twice.
        _redirection.file.seek(0)
        _redirection.file.truncate()
