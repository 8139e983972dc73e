"""The functions that each store, a disk or Google Cloud Storage, has in a module of its own."""

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    """The functions of a store; those of `twinspire_core.storage` have the descriptions."""

    def exists(self, uri: str, /) -> bool: ...  # noqa: D102

    def list_files(self, uri: str, /) -> Iterable[FileInfo]: ...  # noqa: D102

    def list_names(self, uri: str, /) -> Collection[str]: ...  # noqa: D102

    def last_written(self, uri: str, /) -> float | None: ...  # noqa: D102

    def read_bytes(self, uri: str, /) -> bytes: ...  # noqa: D102

    def open_bytes(self, uri: str, /) -> BinaryIO: ...  # noqa: D102

    def write_bytes(self, uri: str, data: bytes, /) -> None: ...  # noqa: D102

    def put_if_absent(self, uri: str, data: bytes, /) -> bool: ...  # noqa: D102

    def delete_file(self, uri: str, /) -> None: ...  # noqa: D102

    def delete_tree(self, uri: str, /) -> None: ...  # noqa: D102

    def file_digest(self, uri: str, /) -> str: ...  # noqa: D102


def map_each(call: Callable[[T], R], arguments: Iterable[T]) -> list[R]:
    """Calls with each argument, a few at once; the first error is raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(call, arguments))
