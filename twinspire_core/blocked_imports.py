"""Libraries that another one would import, and crash on, or load for nothing."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from threading import Lock
from types import ModuleType

_LOCK = Lock()
_hiding: dict[str, int] = {}  # how many hide a module now
_kept: dict[str, ModuleType] = {}


@contextmanager
def block_import(name: str) -> Iterator[None]:
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


@contextmanager
def light(*more: str) -> Iterator[None]:
    """Around the import of TensorFlow: Keras, and Google's client for machines that it might run
    on, are not loaded.

    Args:
      more: other modules that are hidden meanwhile.
    """
    with ExitStack() as stack:
        for name in ("keras", "googleapiclient", *more):
            stack.enter_context(block_import(name))
        yield


class _Absent(MetaPathFinder):
    """Finds that modules are not there."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Ends the search for one of the modules; lets the others be looked for.

        Raises:
          ModuleNotFoundError: it is one of them.
        """
        if fullname in self._names:
            raise ModuleNotFoundError(
                f"{fullname} is left out: this command does not use it", name=fullname
            )


def leave_out(*names: str) -> None:
    """From now on no library of this process loads these modules, compiled ones included; who has
    one keeps it.
    """
    sys.meta_path.insert(0, _Absent(names))
