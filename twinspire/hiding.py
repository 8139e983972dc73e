"""Libraries that another one would import, and crash on, or load for nothing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType

_LOCK = Lock()
_hiding: dict[str, int] = {}  # how many hide a module now
_kept: dict[str, ModuleType] = {}


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Importing a module fails meanwhile, as if it were not installed; whoever has it keeps it.

    Several threads may hide the same module at once: it is back when the last has done.
    """
    with _LOCK:
        if name not in _hiding and name in sys.modules:
            _kept[name] = sys.modules[name]
        _hiding[name] = _hiding.get(name, 0) + 1
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        with _LOCK:
            _hiding[name] -= 1
            if not _hiding[name]:
                del _hiding[name], sys.modules[name]
                if name in _kept:
                    sys.modules[name] = _kept.pop(name)
