"""The functions that the module of each store defines: of the disk, and of object stores."""

import io
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

PART = 8 << 20
"""Bytes of an object that are read or sent at once."""
_AT_ONCE = 8  # transfers; the pool of Google's client holds ten connections


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file below a listed folder.

    Attributes:
      uri: where it is.
      path: relative to the folder, with `/`.
      size: in bytes.
      written: time of the last write, in seconds since 1970.
      digest: of its content, if the store keeps one; else None.
    """

    uri: str
    path: str
    size: int
    written: float
    digest: str | None = None


class Store(Protocol):
    """What the module of a store has to define; `twinspire_core.storage` says more of each function."""

    def exists(self, uri: str, /) -> bool:
        """Whether there is a file, or a folder with something in it."""

    def list_files(self, uri: str, /) -> Iterable[FileInfo]:
        """All files below a folder, in any order."""

    def list_names(self, uri: str, /) -> Collection[str]:
        """Names directly below a folder, in any order."""

    def read_bytes(self, uri: str, /) -> bytes:
        """The content of a file; FileNotFoundError if there is none."""

    def open_bytes(self, uri: str, /) -> io.BufferedReader:
        """Opens a file to read parts of it."""

    def write_bytes(self, uri: str, data: bytes, /) -> None:
        """Writes a whole file."""

    def put_if_absent(self, uri: str, data: bytes, /) -> bool:
        """Creates a file unless there is one."""

    def delete_file(self, uri: str, /) -> None:
        """Deletes a file, if there is one."""


class RemoteStore(Store, Protocol):
    """A store on other machines, which copies files to and from a disk."""

    def upload(self, uri: str, path: Path, /) -> None:
        """Copies a local file into the store."""

    def download(self, uri: str, path: Path, /) -> None:
        """Copies a file to a disk; FileNotFoundError if there is none."""


def open_object(size: int, read_part: Callable[[int, int], bytes]) -> io.BufferedReader:
    """Opens an object to read parts of it.

    Args:
      size: number of its bytes.
      read_part: asks for some of its bytes, by the place of the first and their number.
    """
    return io.BufferedReader(_Object(size, read_part), PART)


class _Object(io.RawIOBase):
    """An object that is read piece by piece."""

    def __init__(self, size: int, read_part: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._read_part = read_part
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return self._next(self._size - self._position)

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}
        self._position = offset + (self._size if whence == io.SEEK_END else starts[whence])
        return self._position

    def _next(self, length: int) -> bytes:
        length = min(length, self._size - self._position)
        data = self._read_part(self._position, length) if length > 0 else b""
        self._position += len(data)
        return data


def map_each(call: Callable[[T], R], arguments: Iterable[T]) -> list[R]:
    """Calls with each argument, a few at once; the first error is raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(call, arguments))
