"""Imports that are blocked, or put off: of what another library would crash on, or load for nothing."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import Lock, RLock
from types import ModuleType
from typing import Any

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


class _WithoutNames(ModuleType):
    """The package TensorFlow before its public names are there, which most of its import is for. They
    are made when somebody asks for the first of them.
    """

    def __getattr__(self, name: str) -> Any:
        """Makes the public names, once; while they are made, one that is not there yet is missing."""
        with _MAKING:
            if name in self.__dict__:
                return self.__dict__[name]
            if not name.startswith("__") and self.__dict__.pop("_put_off", False):
                with block_tensorflow_extras():
                    self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)


_MAKING = RLock()


def load_tensorflow_library() -> None:
    """Loads TensorFlow's native library, a third of what its import takes. Python's lock is free
    meanwhile: other threads go on, such as one that tells people what is being done.
    """
    spec = find_spec("tensorflow")
    if spec is None or spec.origin is None or "tensorflow" in sys.modules:
        return
    library = Path(spec.origin).with_name("libtensorflow_cc.so.2")
    if library.exists():  # else the import will load what there is
        ctypes.CDLL(None).dlopen(os.fsencode(library), os.RTLD_NOW | os.RTLD_LOCAL)


def load_saved_model(folder: str) -> Any:
    """What `tf.saved_model.load` returns, in half the time where TensorFlow is not imported yet."""
    import_loading()
    from tensorflow.python.saved_model.load import load

    return load(folder)


def import_loading() -> None:
    """Imports of TensorFlow no more than loading a SavedModel takes. `import tensorflow` goes on to
    work.
    """
    load_tensorflow_library()
    if "tensorflow" not in sys.modules:
        spec = find_spec("tensorflow")
        assert spec, "setup.py requires it"
        module = module_from_spec(spec)
        module.__class__ = _WithoutNames
        module.__dict__["_put_off"] = True
        sys.modules["tensorflow"] = module
        os.environ["TF2_BEHAVIOR"] = "1"  # as TensorFlow does before all else
    with block_tensorflow_extras():
        from tensorflow.python import tf2
        from tensorflow.python.compat import v2_compat
        from tensorflow.python.saved_model import load  # noqa: F401

        tf2.enable()
        v2_compat.enable_v2_behavior()


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
