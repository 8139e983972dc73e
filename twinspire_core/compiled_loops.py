"""Loops for which NumPy has no words, compiled by numba."""

import fcntl
import pickle
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any


def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """The same loop, compiled when it is first called, which takes a second; later processes read what
    was compiled from a file beside the module, or in the user's cache. It runs without the GIL, so that
    a server's other threads go on.
    """

    @cache
    def compile_once() -> Callable[..., None]:
        # Half a second to import.
        import numba

        try:
            made = numba.njit(nogil=True, cache=True)(loop)
            if hasattr(made, "_cache"):  # numba's own name for it: another release may have none
                made._cache = _SharedCache(made._cache)
        except RuntimeError:  # neither place can be written
            made = numba.njit(nogil=True)(loop)
        run: Callable[..., None] = made
        return run

    @wraps(loop)
    def call(*tables: Any) -> None:
        compile_once()(*tables)

    return call


class _SharedCache:
    """numba's files, which several processes write at once, may be killed over, or have no room for.
    Without a lock two that compile a loop for other types of tables may take one name, and then read
    each other's code.
    """

    def __init__(self, files: Any) -> None:
        self._files = files
        self._lock = Path(files.cache_path, "twinspire.lock")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def load_overload(self, *kinds: Any) -> Any:
        """What was compiled; None if that cannot be read."""
        return self._alone(self._files.load_overload, *kinds)

    def save_overload(self, *made: Any) -> None:
        """Keeps it, if it can."""
        self._alone(self._files.save_overload, *made)

    def _alone(self, deed: Callable[..., Any], *of: Any) -> Any:
        try:
            with self._lock.open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    return deed(*of)
                except (EOFError, pickle.UnpicklingError):  # damaged: begins again
                    self._files.flush()
        except OSError:
            pass
        return None
