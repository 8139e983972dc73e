"""Loops for which NumPy has no words, compiled by numba."""

from collections.abc import Callable
from functools import cache, wraps
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
        except RuntimeError:  # neither place can be written
            made = numba.njit(nogil=True)(loop)
        run: Callable[..., None] = made
        return run

    @wraps(loop)
    def call(*tables: Any) -> None:
        compile_once()(*tables)

    return call
