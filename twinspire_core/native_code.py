"""Native code: heavy libraries, such as TensorFlow, and loops that NumPy has no operation for.

Libraries are loaded without the modules that they would load for nothing or crash on, in part where a part
will do, and without what they write to standard error. Loops are compiled by numba.
"""

import fcntl
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.util import find_spec, module_from_spec
from io import BytesIO
from pathlib import Path
from threading import Lock, RLock
from types import ModuleType
from typing import IO, Any

from twinspire_core.terminal import console

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
def block_tensorflow_extras() -> Iterator[None]:
    """Blocks what TensorFlow would load for nothing when it is imported: Keras, and Google's client
    for machines that it might run on.
    """
    with block_import("keras"), block_import("googleapiclient"):
        yield


class _WithoutNames(ModuleType):
    """The package TensorFlow without its public names, which most of its import is for. They are made
    when the first of them is asked for.
    """

    def __getattr__(self, name: str) -> Any:
        """Makes the public names, once. While they are made, a name that is not there yet is missing."""
        with _MAKING:
            if name in self.__dict__:
                return self.__dict__[name]
            if not name.startswith("__") and self.__dict__.pop("_put_off", False):
                with block_tensorflow_extras():
                    self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)


_MAKING = RLock()


def load_saved_model(folder: str) -> Any:
    """What `tf.saved_model.load` returns, in half the time where TensorFlow is not imported yet."""
    import_loading()
    from tensorflow.python.saved_model.load import load

    return load(folder)


def import_loading() -> None:
    """Imports the part of TensorFlow that loading a SavedModel needs. `import tensorflow` still works
    afterwards.
    """
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
    # Not by None in sys.modules, as `block_import` does: compiled libraries, such as Arrow, take that
    # for the module.
    sys.meta_path.insert(0, _Absent(names))


_STDERR = RLock()


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Keeps back what is written to standard error, by Python or by native code, while the block runs.
    If the block fails, what was kept is written.

    Where there is no room to keep it, as on a full disk, it is written at once. The redirection
    holds for the whole process, and blocks of several threads wait for one another: so use it
    around loading a library, not around work that reports progress.
    """
    with _STDERR, ExitStack() as undo:
        _flush()
        original, kept = _redirect(undo)
        try:
            yield
        except BaseException:
            _flush()
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            _flush()


def _redirect(undo: ExitStack) -> tuple[int, IO[bytes]]:
    """Redirects standard error. Returns where it went before, and the file that it is kept in, which is
    empty where nothing can be kept.
    """
    with suppress(OSError), ExitStack() as opened:
        original = os.dup(2)
        opened.callback(os.close, original)
        file = opened.enter_context(tempfile.TemporaryFile(buffering=0))
        if console.is_terminal:
            # The progress line goes on there. It is closed by the garbage collector, not here: the
            # line may be writing to it just now.
            console.file = os.fdopen(os.dup(original), "w")
            opened.callback(setattr, console, "file", None)
            opened.callback(setattr, sys, "stderr", sys.stderr)
            # While the progress line is shown, rich puts a proxy to the console in its place.
            sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        opened.callback(os.dup2, original, 2)
        os.dup2(file.fileno(), 2)
        undo.push(opened.pop_all())
        return original, file
    return 2, BytesIO()


def _flush() -> None:
    # sys.stderr may be None, be on a full disk, or be closed.
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()


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
