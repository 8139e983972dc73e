"""The functions that the module of each store defines: of the disk, and of object stores."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

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

    def last_written(self, uri: str, /) -> float | None:
        """When anything below a folder was last written."""

    def read_bytes(self, uri: str, /) -> bytes:
        """The content of a file; FileNotFoundError if there is none."""

    def open_bytes(self, uri: str, /) -> BinaryIO:
        """Opens a file to read parts of it."""

    def write_bytes(self, uri: str, data: bytes, /) -> None:
        """Writes a whole file."""

    def put_if_absent(self, uri: str, data: bytes, /) -> bool:
        """Creates a file unless there is one."""

    def delete_file(self, uri: str, /) -> None:
        """Deletes a file, if there is one."""

    def delete_tree(self, uri: str, /) -> None:
        """Deletes a folder with all that is in it."""

    def file_digest(self, uri: str, /) -> str:
        """`sha256` of a file's content, in hex."""


class RemoteStore(Store, Protocol):
    """A store on other machines, which copies files to and from a disk."""

    def copy(self, source: str, target: str, /) -> None:
        """Copies a file within the store."""

    def upload(self, uri: str, path: Path, /) -> None:
        """Copies a local file into the store."""

    def download(self, uri: str, path: Path, /) -> None:
        """Copies a file to a disk; FileNotFoundError if there is none."""


def map_each(call: Callable[[T], R], arguments: Iterable[T]) -> list[R]:
    """Calls with each argument, a few at once; the first error is raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(call, arguments))
