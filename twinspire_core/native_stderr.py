"""Keeps back what native libraries write to standard error where it would only confuse."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from threading import Lock
from typing import NamedTuple, TextIO

from twinspire_core.terminal import console


class _Redirection(NamedTuple):
    """Standard error, redirected.

    Attributes:
      original: a descriptor of where it went before.
      file: where it goes meanwhile.
      python: what `sys.stderr` was.
      terminal: where a line that tells people what is being done goes on; None without a terminal.
    """

    original: int
    file: FileIO
    python: TextIO | None
    terminal: TextIO | None


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
    _begin()
    try:
        yield
    except BaseException:
        _write_kept()
        raise
    finally:
        _end()


def _begin() -> None:
    global _open_blocks, _redirection
    with _lock:
        if not _open_blocks:
            _redirection = _redirect()
        _open_blocks += 1


def _redirect() -> _Redirection | None:
    """Redirects standard error; None where there is none, or no file to keep it in."""
    _flush()
    with suppress(OSError), ExitStack() as opened:
        original = os.dup(2)
        opened.callback(os.close, original)
        file = opened.enter_context(tempfile.TemporaryFile(buffering=0))
        terminal = None
        if console.is_terminal:
            terminal = opened.enter_context(open(os.dup(original), "w"))
        python = sys.stderr
        os.dup2(file.fileno(), 2)
        opened.pop_all()  # from here on nothing fails: `_end` closes them
        if terminal:
            console.file = terminal
            # While the line moves, `sys.stderr` is a way to the console.
            sys.stderr = getattr(python, "rich_proxied_file", python)
        return _Redirection(original, file, python, terminal)
    return None


def _flush() -> None:
    # sys.stderr may be None, be on a full disk, or be closed.
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()


def _write_kept() -> None:
    with _lock:
        if _redirection:
            _flush()
            _redirection.file.seek(0)
            os.write(_redirection.original, _redirection.file.read())
            # A block around this one, or beside it, may fail too: nothing is written twice.
            _redirection.file.seek(0)
            _redirection.file.truncate()


def _end() -> None:
    global _open_blocks, _redirection
    with _lock:
        _open_blocks -= 1
        if _open_blocks or not _redirection:
            return
        _flush()
        os.dup2(_redirection.original, 2)
        os.close(_redirection.original)
        if _redirection.terminal:
            console.file = None  # type: ignore[assignment]
            sys.stderr = _redirection.python
            # It is closed when nobody refers to it: the line may be writing to it just now.
        _redirection.file.close()
        _redirection = None
