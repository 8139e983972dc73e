"""Loops that NumPy has no operation for, compiled by numba."""

import fcntl
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any


def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """The same loop, compiled when it is first called, which takes a second; later processes read the
    compiled code from a file next to the module, or in the user's cache. It runs without the GIL, so
    that a server's other threads go on.
    """

    @cache
    def compile_once() -> Any:
        # Half a second to import.
        import numba

        try:
            made = numba.njit(nogil=True, cache=True)(loop)
            if hasattr(made, "_cache"):  # a private name of numba: another release may lack it
                made._cache = _SharedCache(made._cache)
        except RuntimeError:  # neither place can be written to
            made = numba.njit(nogil=True)(loop)
        return made

    @wraps(loop)
    def call(*tables: Any) -> None:
        compile_once()(*tables)

    return call


class _SharedCache:
    """numba's cache files, safe for several processes that write them at once, are killed while they do,
    or run out of disk. Without the lock, two processes that compile a loop for different types may
    choose the same file name, and then read each other's code.
    """

    def __init__(self, files: Any) -> None:
        self._files = files
        self._lock = Path(files.cache_path, "twinspire.lock")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def load_overload(self, *kinds: Any) -> Any:
        """The compiled code; None if it cannot be read."""
        return self._alone(self._files.load_overload, *kinds)

    def save_overload(self, *made: Any) -> None:
        """Keeps compiled code, if it can."""
        self._alone(self._files.save_overload, *made)

    def _alone(self, call: Callable[..., Any], *arguments: Any) -> Any:
        with suppress(OSError), self._lock.open("a") as lock:
            # Of the file, as the others are processes; it ends with the process that holds it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return call(*arguments)
            except (EOFError, pickle.UnpicklingError):  # damaged: starts afresh
                self._files.flush()
        return None
