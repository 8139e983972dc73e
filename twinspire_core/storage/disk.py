"""Files on a disk, for `twinspire_core.storage` alone, whose functions have the full descriptions.

A file is written under another name in its folder and then renamed: a reader sees all of it or nothing.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from twinspire_core.errors import TryAgain, TwinspireError, UsageError
from twinspire_core.storage.store import FileInfo

# Prefix of files that are still being written, or whose writer was killed.
_SCRATCH = ".tmp-"


def exists(uri: str) -> bool:
    """Whether there is a file or a folder."""
    return os.path.exists(uri)


def list_files(uri: str) -> Iterator[FileInfo]:
    """All files below a folder."""
    # Paths are joined as strings: a window of a year has a thousand folders, and for these `Path` objects
    # took more time than the disk.
    root = str(Path(uri))
    for folder, _, names in os.walk(root, onerror=_unless_gone):
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(_SCRATCH):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode):
                    relative = path[len(root) :].lstrip("/")
                    yield FileInfo(path, relative, status.st_size, status.st_mtime)


def list_names(uri: str) -> list[str]:
    """Names directly below a folder."""
    if not os.path.isdir(uri):
        return []
    return [name for name in os.listdir(uri) if not name.startswith(_SCRATCH)]


def last_written(uri: str) -> float | None:
    """When anything below a folder was last written, half-written files and folders included."""
    times = []
    for folder, _, names in os.walk(uri, onerror=_unless_gone):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):  # deleted, or finished, since then
                times.append(os.stat(path).st_mtime)
    return max(times, default=None)


def _unless_gone(error: OSError) -> None:
    """Skips folders that were deleted meanwhile, and files. A folder that cannot be listed for another
    reason is an error, since it would look empty.
    """
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def read_bytes(uri: str) -> bytes:
    """The content of a file."""
    return Path(uri).read_bytes()


def open_bytes(uri: str) -> BufferedReader:
    """Opens a file to read parts of it."""
    return open(uri, "rb")


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file. When it returns, the file survives a power cut."""
    with written_whole(uri) as scratch:
        Path(scratch).write_bytes(data)
    sync(os.path.dirname(uri))


def write_transient(uri: str, data: bytes) -> None:
    """Writes a whole file, without waiting for the disk."""
    with _scratch_file(uri) as scratch:
        Path(scratch).write_bytes(data)
        os.replace(scratch, uri)


def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates a file unless there is one; see `storage.put_if_absent`."""
    with _scratch_file(uri) as scratch:
        Path(scratch).write_bytes(data)
        sync(scratch)
        try:
            # A hard link fails if the file exists. A rename would replace it.
            os.link(scratch, uri)
        except FileExistsError:
            # It may be our own file: a network file system can make the link and lose the reply.
            if read_bytes(uri) != data:
                return False
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            raise UsageError(
                f"{uri} must be created with a hard link, but that failed: {e}. The file system"
                " probably has no hard links. Use another one, or an object store."
            ) from e
    _sync_upwards(os.path.dirname(uri))
    return True


def delete_file(uri: str) -> None:
    """Deletes a file; nothing if there is none."""
    Path(uri).unlink(missing_ok=True)


def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is in it."""
    # Again and again: another process may delete a part of the folder, which ends `rmtree`.
    while os.path.isdir(uri):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(uri)


def delete_scratch(uri: str, *, before: float) -> None:
    """Deletes half-written files that were not written to since a time."""
    for folder, _, names in os.walk(uri, onerror=_unless_gone):
        for path in (Path(folder, name) for name in names if name.startswith(_SCRATCH)):
            with contextlib.suppress(FileNotFoundError):  # its writer has ended meanwhile
                if path.stat().st_mtime < before:
                    path.unlink()


@contextlib.contextmanager
def written_whole(uri: str) -> Iterator[str]:
    """The name of a file to write, which becomes `uri` when the block ends without an error.

    Its content survives a power cut; its name does when the folder is synced too.

    Raises:
      TryAgain: the disk is full.
    """
    with _scratch_file(uri) as scratch:
        yield scratch
        # Content first, then the name: after a power cut there is never half a file under the name.
        sync(scratch)
        os.replace(scratch, uri)


@contextlib.contextmanager
def _scratch_file(uri: str) -> Iterator[str]:
    """The name of a file to write in the folder of `uri`, which is deleted afterwards if it still exists.

    Raises:
      TryAgain: the disk is full.
    """
    folder = os.path.dirname(uri) or "."
    # In the same folder, because a rename cannot cross file systems.
    scratch = f"{folder}/{_SCRATCH}{secrets.token_hex(8)}"
    try:
        os.makedirs(folder, exist_ok=True)
        yield scratch
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TryAgain(
            f"{uri} could not be written: {e.strerror}. An earlier file of this name has not"
            " changed. Free some disk space (`twinspire prune PIPELINE --yes` deletes old files),"
            " then run the same command again."
        ) from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)


def sync(path: str) -> None:
    """Flushes a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_upwards(folder: str) -> None:
    """Flushes a folder and the folders above it to the disk."""
    # Also those that existed before: a killed process may have made them without flushing.
    here = Path(folder).absolute()
    for part in (here, *here.parents):
        if not os.access(part, os.R_OK):
            return  # another account's, which existed before
        sync(str(part))


_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# Errors of C++ libraries have only the text, without a code.
_FULL_TEXTS = tuple(os.strerror(code) for code in _FULL)
_READ_ONLY_TEXT = os.strerror(errno.EROFS)
_LONGEST = 300  # characters of an error


def explain(error: BaseException) -> TwinspireError | None:
    """The project's error for one that was caused, at any depth, by a full, read-only or forbidden disk;
    None for an error with another cause, or that is the project's own.
    """
    if isinstance(error, TwinspireError) or not isinstance(error, Exception):
        return None
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    # The first error of the chain counts. Later ones come from cleaning up on the same disk.
    for cause in reversed(causes):
        text = str(cause)
        code = cause.errno if isinstance(cause, OSError) else None
        reason = (text.splitlines() or [type(cause).__name__])[0][:_LONGEST]
        if code in _FULL or any(full in text for full in _FULL_TEXTS):
            return TryAgain(
                f"The disk of work_root, of registry.root or of temporary files (TMPDIR) is full:"
                f" {reason}. Published versions have not changed. Free some disk space (`twinspire prune"
                " PIPELINE --yes` deletes old files), then run the same command again."
            )
        if code in _CLOSED or _READ_ONLY_TEXT in text:
            return UsageError(
                "Stages must be able to read the logs, and to write to work_root, registry.root and"
                f" the folder of temporary files (TMPDIR). This account has no access: {reason}."
                " Published versions have not changed. Change the permissions, or mount the disk for"
                " writing; then run the same command again."
            )
    return None
