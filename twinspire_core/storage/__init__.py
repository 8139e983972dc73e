"""Files on a disk or in an object store, behind one set of functions.

A place is a string: a local path, or `gs://bucket/name`, `s3://bucket/name` or `az://container/name`. The
functions are those that this project's formats need: whole files are written at once and never changed,
folders are listed, and a file can be created only if it is absent.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from twinspire_core.errors import UsageError
from twinspire_core.storage import disk, gcs, object_stores
from twinspire_core.storage.store import FileInfo as FileInfo
from twinspire_core.storage.store import RemoteStore, Store, map_each

STORES: Mapping[str, RemoteStore] = {"gs": gcs, "s3": object_stores, "az": object_stores}
"""Stores other than the disk, by the scheme of their places. A new store is a module, and a line here."""
# One slash is enough: `Path` turns the two slashes of `gs://` into one.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def _remote_store_of(uri: str) -> RemoteStore | None:
    """The store of a place; None for the disk.

    Raises:
      UsageError: it has another scheme, such as `http://`, which would be taken for a folder.
    """
    scheme = _SCHEME.match(uri)
    if not scheme:
        return None
    if scheme[1] in STORES and uri.startswith(f"{scheme[1]}://"):
        return STORES[scheme[1]]
    stores = " or ".join(f"{name}://BUCKET/NAME" for name in STORES)
    remedy = "Copy or mount what is elsewhere"
    if scheme[1] == "file":
        remedy = f"Write the path alone, /{uri.removeprefix('file:').lstrip('/')}"
    raise UsageError(f"A path must be local or {stores}; found {uri}. {remedy}.")


def _store_of(uri: str) -> Store:
    return _remote_store_of(uri) or disk


def is_remote(uri: str) -> bool:
    """Whether the place is in another store than the disk.

    Raises:
      UsageError: it has a scheme that no store has.
    """
    return _remote_store_of(uri) is not None


def join(uri: str, *parts: str) -> str:
    """The place below `uri`."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether there is a file, or a folder with something in it."""
    return _store_of(uri).exists(uri)


def list_files(uri: str) -> list[FileInfo]:
    """All files below a folder, sorted by path; none if there is no such folder."""
    return sorted(_store_of(uri).list_files(uri), key=lambda file: file.path)


def list_names(uri: str) -> list[str]:
    """Names directly below a folder, sorted; none if there is no such folder."""
    return sorted(_store_of(uri).list_names(uri))


def last_written(uri: str) -> float | None:
    """When anything below a folder was last written, in seconds since 1970; None if it is empty.

    On a disk, files that are still being written and the folders themselves count, too.
    """
    if not is_remote(uri):
        return disk.last_written(uri)
    return max((file.written for file in list_files(uri)), default=None)


def read_bytes(uri: str) -> bytes:
    """The content of a file.

    Raises:
      FileNotFoundError: there is none.
    """
    return _store_of(uri).read_bytes(uri)


def open_bytes(uri: str) -> BufferedReader:
    """Opens a file to read parts of it. The caller closes it."""
    return _store_of(uri).open_bytes(uri)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file; readers see the old content or the new one."""
    _store_of(uri).write_bytes(uri, data)


def write_transient(uri: str, data: bytes) -> None:
    """Writes a whole file that is deleted before the command ends. It does not survive a power cut, and
    may never reach the disk.
    """
    if is_remote(uri):
        write_bytes(uri, data)
    else:
        disk.write_transient(uri, data)


def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates a file, whole or not at all, unless there is one. When it returns, the file survives
    a power cut.

    If the store's reply is lost, the file is read back, and the same bytes are taken for our own. A
    caller that must distinguish two writers therefore puts an id of its own into them.

    Returns:
      True if the file now holds `data`; False if it holds something else.

    Raises:
      TryAgain: the store did not answer, so that it is not known whether there will be a file.
    """
    return _store_of(uri).put_if_absent(uri, data)


def upload_tree(local: Path, uri: str) -> None:
    """Copies a local folder's files below `uri`."""
    copy_tree(str(local), uri)


def copy_tree(source: str, target: str) -> None:
    """Copies all files below one place to another, across stores. On a disk they survive a power
    cut.
    """
    copies = {file.uri: join(target, file.path) for file in list_files(source)}
    map_each(_copy, copies.items())
    # The content of each copy is on the disk now. Its name is there only after a sync of its folder.
    if not is_remote(target):
        for folder in {os.path.dirname(copy) for copy in copies.values()}:
            disk.sync(folder)


def link_tree(source: str, folder: Path) -> None:
    """Puts all files below a place into a local folder for reading: links to local files, copies of
    others.
    """
    if is_remote(source):
        localize(source, folder)
        return
    for file in list_files(source):
        link = folder / file.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(file.uri).absolute())


def localize(uri: str, folder: Path) -> Path:
    """A local folder or file with the content of `uri`: `uri` itself when it is local, else a download
    into `folder`.

    A download that is killed leaves some of a folder's files, each of them complete.
    """
    if not is_remote(uri):
        return Path(uri)
    if files := list_files(uri):
        download(uri, folder, [file.path for file in files])
    else:
        # An object store has no empty folders: this is a file, or nothing.
        with suppress(FileNotFoundError):
            file = folder / uri.rsplit("/", 1)[-1]
            _copy((uri, str(file)))
            return file
    return folder


def download(uri: str, folder: Path, paths: Iterable[str]) -> None:
    """Copies some of the files below a place into a local folder.

    Raises:
      FileNotFoundError: one is not there.
    """
    map_each(_copy, [(join(uri, path), str(folder / path)) for path in paths])


def _copy(pair: tuple[str, str]) -> None:
    """Copies one file: readers of the target see all of it or nothing."""
    source, target = pair
    of_source, of_target = map(_remote_store_of, pair)
    if of_target is None:
        with disk.written_whole(target) as scratch:
            if of_source:
                of_source.download(source, Path(scratch))
            else:
                shutil.copyfile(source, scratch)
    elif of_source is None:
        of_target.upload(target, Path(source))
    elif of_source is of_target is gcs:
        gcs.copy(source, target)
    else:
        # S3 itself copies 5 GB at most, and Azure may answer before it has copied.
        with tempfile.TemporaryDirectory() as between:
            local = os.path.join(between, "copy")
            _copy((source, local))
            _copy((local, target))


def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is in it, if there is one. Others may be deleting it at the same time."""
    if is_remote(uri):
        map_each(delete_file, [file.uri for file in list_files(uri)])
    else:
        disk.delete_tree(uri)


def delete_file(uri: str) -> None:
    """Deletes a file, if there is one."""
    _store_of(uri).delete_file(uri)


def delete_scratch(uri: str, *, before: float) -> None:
    """Deletes half-written files below a folder whose writers were killed; an object store has none. Only
    files last written `before` a time, in seconds since 1970, are deleted: writers of others may still
    be alive.
    """
    if not is_remote(uri):
        disk.delete_scratch(uri, before=before)


def file_digest(uri: str) -> str:
    """`sha256` of a file's content, in hex.

    Raises:
      FileNotFoundError: there is none.
    """
    with open_bytes(uri) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(files: Sequence[FileInfo]) -> dict[str, str]:
    """`sha256` of each file's content by its path, a few at once."""
    digests = map_each(file_digest, [file.uri for file in files])
    return {file.path: digest for file, digest in zip(files, digests, strict=True)}
