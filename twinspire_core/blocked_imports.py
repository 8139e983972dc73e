"""Imports that are blocked: of libraries that another one would crash on, or load for nothing."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from threading import Lock
from types import ModuleType

_LOCK = Lock()
_blocks: dict[str, int] = {}  # how many blocks of a module are open
_loaded: dict[str, ModuleType] = {}  # modules to be put back when the last block ends


@contextmanager
def block_import(name: str) -> Iterator[None]:
    """Importing a module fails in this block, as if it were not installed; code that has imported
    it keeps it.

    Several threads may block the same module at once: it can be imported again when the last block
    has ended.
    """
    with _LOCK:
        if name not in _blocks and name in sys.modules:
            _loaded[name] = sys.modules[name]
        _blocks[name] = _blocks.get(name, 0) + 1
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        with _LOCK:
            _blocks[name] -= 1
            if not _blocks[name]:
                del _blocks[name], sys.modules[name]
                if name in _loaded:
                    sys.modules[name] = _loaded.pop(name)


@contextmanager
def block_tensorflow_extras(*more: str) -> Iterator[None]:
    """Blocks what TensorFlow would load for nothing when it is imported: Keras, and Google's client
    for machines that it might run on.

    Args:
      more: other modules to block.
    """
    with ExitStack() as stack:
        for name in ("keras", "googleapiclient", *more):
            stack.enter_context(block_import(name))
        yield


class _Absent(MetaPathFinder):
    """A finder that reports some modules as missing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Ends the search for one of the modules; leaves others to the next finder.

        Raises:
          ModuleNotFoundError: it is one of them.
        """
        if fullname in self._names:
            raise ModuleNotFoundError(
                f"{fullname} is left out: this command does not use it", name=fullname
            )


def never_import(*names: str) -> None:
    """From now on no library of this process can import these modules; code that has imported one
    keeps it.
    """
    # An entry None in sys.modules would not do: compiled libraries, such as Arrow, take it for the
    # module.
    sys.meta_path.insert(0, _Absent(names))
