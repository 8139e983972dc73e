"""Files on a disk or on Google Cloud Storage, behind one set of functions.

A place is a string: a local path, or `gs://bucket/name`. Only what the formats of this project need
is here: whole files are written at once and never changed, folders are listed, and a file can be
created only if it is absent.

A file on a disk is written beside its place and renamed to it: a reader sees all of it or none.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from twinspire_core.errors import TryAgain, UsageError
from twinspire_core.storage import gcs

T = TypeVar("T")

_AT_ONCE = 8  # transfers; the client's pool holds ten connections
_SCRATCH = ".tmp-"
"""Begins the name of a file that is still being written, or whose writer was killed."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file below a listed folder.

    Attributes:
      uri: where it is.
      path: relative to the folder, with `/`.
      size: in bytes.
      written: when, in seconds since 1970.
      digest: a digest of its content when the store keeps one; else None.
    """

    uri: str
    path: str
    size: int
    written: float
    digest: str | None = None


def is_remote(uri: str) -> bool:
    """Whether the place is on Google Cloud Storage."""
    return uri.startswith("gs://")


def join(uri: str, *parts: str) -> str:
    """The place below `uri`."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether there is a file, or a folder with something in it."""
    return gcs.exists(uri) if is_remote(uri) else os.path.exists(uri)


def list_files(uri: str) -> list[FileInfo]:
    """All files below a folder, sorted by path; none if there is no such folder."""
    files = _remote_files(uri) if is_remote(uri) else _local_files(Path(uri))
    return sorted(files, key=lambda file: file.path)


def _remote_files(uri: str) -> Iterator[FileInfo]:
    start = len(uri.rstrip("/")) + 1
    for found in gcs.objects(uri):
        yield FileInfo(found.uri, found.uri[start:], found.size, found.written, found.digest)


def _local_files(root: Path) -> Iterator[FileInfo]:
    for folder, _, names in os.walk(root, onerror=_unless_gone):
        for name in names:
            path = Path(folder, name)
            if name.startswith(_SCRATCH):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    relative = path.relative_to(root).as_posix()
                    yield FileInfo(str(path), relative, status.st_size, status.st_mtime)


def last_written(uri: str) -> float | None:
    """When anything below a folder was last written, in seconds since 1970; None if there is
    nothing.

    On a disk, files that are still being written and the folders themselves count.
    """
    if is_remote(uri):
        return max((file.written for file in gcs.objects(uri)), default=None)
    times = []
    for folder, _, names in os.walk(uri, onerror=_unless_gone):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):  # deleted, or finished, since then
                times.append(os.stat(path).st_mtime)
    return max(times, default=None)


def _unless_gone(error: OSError) -> None:
    """Passes over folders that are deleted meanwhile, or are none.

    A folder that cannot be listed for another reason is an error: it would look empty.
    """
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def list_names(uri: str) -> list[str]:
    """Names directly below a folder, sorted; none if there is no such folder."""
    if is_remote(uri):
        return sorted(gcs.names(uri))
    if not os.path.isdir(uri):
        return []
    return sorted(name for name in os.listdir(uri) if not name.startswith(_SCRATCH))


def read_bytes(uri: str) -> bytes:
    """The content of a file.

    Raises:
      FileNotFoundError: there is none.
    """
    if is_remote(uri):
        return gcs.read_bytes(uri)
    return Path(uri).read_bytes()


def open_bytes(uri: str) -> BinaryIO:
    """Opens a file to read parts of it. The caller closes it."""
    if is_remote(uri):
        return cast(BinaryIO, gcs.blob(uri).open("rb"))
    return open(uri, "rb")


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file; readers see the old content or the new one."""
    if is_remote(uri):
        gcs.write_bytes(uri, data)
        return
    with _scratch(uri) as scratch:
        Path(scratch).write_bytes(data)
        # Content first, then the name: after a power cut the name never stands for half a file.
        _sync(scratch)
        os.replace(scratch, uri)
    _sync(os.path.dirname(uri))


def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates a file, whole or not at all, unless there is one. When it returns, the file survives
    a power cut.

    A reply that was lost is settled by reading back: the same bytes are taken for our own, so a
    caller who must tell two writers apart puts an id of its own into them.

    Returns:
      True if the file now holds `data`; False if it holds something else.

    Raises:
      TryAgain: the store did not answer, and whether the file will be there is not known.
    """
    if is_remote(uri):
        return gcs.put_if_absent(uri, data)
    with _scratch(uri) as scratch:
        Path(scratch).write_bytes(data)
        _sync(scratch)
        try:
            # Unlike a rename, a hard link does not replace a file that is there.
            os.link(scratch, uri)
        except FileExistsError:
            if read_bytes(uri) != data:
                return False
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            raise UsageError(
                f"A file that must exist only once is made by a hard link, and {uri} cannot be:"
                f" {e}. The file system has no hard links, probably: use another one, or gs://."
            ) from e
    _sync_upwards(os.path.dirname(uri))
    return True


def upload_tree(local: Path, uri: str) -> None:
    """Copies a local folder's files below `uri`."""
    copy_tree(str(local), uri)


def copy_tree(source: str, target: str) -> None:
    """Copies all files below one place to another, across stores. On a disk they survive a power
    cut.
    """
    copies = {file.uri: join(target, file.path) for file in list_files(source)}
    _all(_copy, copies.items())
    if not is_remote(target):
        for folder in {os.path.dirname(copy) for copy in copies.values()}:
            _sync(folder)


def link_tree(source: str, folder: Path) -> None:
    """Puts all files below a place into a local folder, to be read there: links to local ones,
    copies of others.
    """
    if is_remote(source):
        localize(source, folder)
        return
    for file in list_files(source):
        link = folder / file.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(file.uri).absolute())


def localize(uri: str, folder: Path | None = None) -> Path:
    """A local folder or file with the content of `uri`: itself when it is local, else downloaded
    into `folder`.

    A download that is killed leaves some of a folder's files, each of them whole.
    """
    if not is_remote(uri):
        return Path(uri)
    if folder is None:
        raise ValueError(f"{uri} has to be downloaded, and no folder was given for it")
    if gcs.is_object(uri):
        file = folder / uri.rsplit("/", 1)[-1]
        _copy((uri, str(file)))
        return file
    _all(_copy, [(file.uri, str(folder / file.path)) for file in list_files(uri)])
    return folder


def download(uri: str, folder: Path, paths: Iterable[str]) -> None:
    """Copies some of the files below a place into a local folder.

    Raises:
      FileNotFoundError: one is not there.
    """
    _all(_copy, [(join(uri, path), str(folder / path)) for path in paths])


def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is in it; nothing if there is none. Others may be deleting it
    too.
    """
    if is_remote(uri):
        _all(gcs.delete, [found.uri for found in gcs.objects(uri)])
        return
    while os.path.isdir(uri):
        with contextlib.suppress(FileNotFoundError):  # another process deleted a part of it
            shutil.rmtree(uri)


def delete_file(uri: str) -> None:
    """Deletes a file; nothing if there is none."""
    if is_remote(uri):
        gcs.delete(uri)
    else:
        Path(uri).unlink(missing_ok=True)


def file_digest(uri: str) -> str:
    """`sha256` of a file's content, in hex.

    Raises:
      FileNotFoundError: there is none.
    """
    if is_remote(uri):
        return gcs.sha256(uri)
    with open(uri, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(files: Sequence[FileInfo]) -> dict[str, str]:
    """`sha256` of each file's content by its path, a few at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(pool.map(lambda file: (file.path, file_digest(file.uri)), files))


def _copy(pair: tuple[str, str]) -> None:
    """Copies one file: readers of the target see all of it or none."""
    source, target = pair
    if is_remote(target):
        if is_remote(source):
            gcs.copy(source, target)
        else:
            gcs.upload(target, Path(source))
        return
    with _scratch(target) as scratch:
        if is_remote(source):
            gcs.download(source, Path(scratch))
        else:
            shutil.copyfile(source, scratch)
        _sync(scratch)
        os.replace(scratch, target)


@contextlib.contextmanager
def _scratch(uri: str) -> Iterator[str]:
    """The name of a file to write beside `uri`, which is removed afterwards if it is still there.

    Raises:
      TryAgain: the disk is full.
    """
    folder = os.path.dirname(uri) or "."
    scratch = f"{folder}/{_SCRATCH}{secrets.token_hex(8)}"
    try:
        os.makedirs(folder, exist_ok=True)
        yield scratch
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TryAgain(
            f"A file is written whole or not at all, and {uri} was not: {e.strerror}. What was"
            " there before is as it was. Make room (`twinspire prune PIPELINE --yes` deletes what"
            " is old), then run the same command again."
        ) from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)


def _sync(path: str) -> None:
    """Brings a file's content, or a folder's list of names, to the disk itself."""
    handle = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_upwards(folder: str) -> None:
    """Brings a folder and the folders above it to the disk.

    A process that was killed may have made any of them, and not synced it.
    """
    here = Path(folder).absolute()
    for part in (here, *here.parents):
        if not os.access(part, os.R_OK):
            return  # not ours: it was there before
        _sync(str(part))


def _all(call: Callable[[T], None], arguments: Iterable[T]) -> None:
    """Calls with each argument, a few at once; the first error is raised."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(call, arguments):
            pass
