"""Files on a disk or on Google Cloud Storage, behind one set of functions.

A place is a string: a local path, or `gs://bucket/name`. Only what the formats of this project need is here: whole
files are written at once and never changed, folders are listed, and one file can be created only if it is absent.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file below a listed folder.

    Attributes:
      uri: where it is.
      path: relative to the folder, with `/`.
      size: in bytes.
      digest: a digest of its content when the store keeps one; else None.
    """

    uri: str
    path: str
    size: int
    digest: str | None = None


def is_remote(uri: str) -> bool:
    """Whether the place is on Google Cloud Storage."""
    return uri.startswith("gs://")


def join(uri: str, *parts: str) -> str:
    """The place below `uri`."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether there is a file, or a folder with something in it."""
    if not is_remote(uri):
        return os.path.exists(uri)
    bucket, name = _split(uri)
    return bucket.blob(name).exists() or next(_blobs(uri, limit=1), None) is not None


def list_files(uri: str) -> list[FileInfo]:
    """All files below a folder, sorted by path; none if there is no such folder."""
    if not is_remote(uri):
        root = Path(uri)
        found = (path for path in root.rglob("*") if path.is_file())
        files = [FileInfo(str(p), p.relative_to(root).as_posix(), p.stat().st_size) for p in found]
        return sorted(files, key=lambda file: file.path)
    start = len(_split(uri)[1]) + 1
    return [
        FileInfo(f"gs://{b.bucket.name}/{b.name}", b.name[start:], b.size, f"crc32c:{b.crc32c}")
        for b in sorted(_blobs(uri), key=lambda blob: blob.name)
        if not b.name.endswith("/")
    ]


def list_names(uri: str) -> list[str]:
    """Names directly below a folder, sorted; none if there is no such folder."""
    if not is_remote(uri):
        return sorted(name for name in os.listdir(uri) if not name.startswith(".tmp-")) if os.path.isdir(uri) else []
    bucket, name = _split(uri)
    pages = bucket.client.list_blobs(bucket, prefix=name + "/", delimiter="/")
    names = {blob.name for blob in pages} | set(pages.prefixes)
    return sorted(found[len(name) + 1 :].strip("/") for found in names if found != name + "/")


def read_bytes(uri: str) -> bytes:
    """The content of a file.

    Raises:
      FileNotFoundError: there is none.
    """
    if not is_remote(uri):
        return Path(uri).read_bytes()
    from google.api_core.exceptions import NotFound

    bucket, name = _split(uri)
    try:
        return bucket.blob(name).download_as_bytes()
    except NotFound as e:
        raise FileNotFoundError(uri) from e


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file; readers see the old content or the new one."""
    if is_remote(uri):
        bucket, name = _split(uri)
        bucket.blob(name).upload_from_string(data)
        return
    scratch = _scratch(uri, data)
    os.replace(scratch, uri)
    _sync_folder(os.path.dirname(uri))


def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates a file, whole or not at all, unless there is one.

    A reply that was lost is settled by reading back: the same bytes are taken for our own, so a caller who must tell
    two writers apart puts an id of its own into them.

    Returns:
      True if the file now holds `data`; False if it holds something else.
    """
    if is_remote(uri):
        return _put_blob_if_absent(uri, data)
    scratch = _scratch(uri, data)
    try:
        os.link(scratch, uri)
        _sync_folder(os.path.dirname(uri))
        return True
    except FileExistsError:
        return read_bytes(uri) == data
    finally:
        os.unlink(scratch)


def _put_blob_if_absent(uri: str, data: bytes) -> bool:
    from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed, RetryError

    bucket, name = _split(uri)
    try:
        bucket.blob(name).upload_from_string(data, if_generation_match=0)
        return True
    except PreconditionFailed:
        return read_bytes(uri) == data
    except (GoogleAPICallError, RetryError, ConnectionError):
        try:
            return read_bytes(uri) == data
        except FileNotFoundError:
            pass
        raise


def upload_tree(local: Path, uri: str) -> None:
    """Copies a local folder's files below `uri`."""
    for path in sorted(p for p in Path(local).rglob("*") if p.is_file()):
        target = join(uri, path.relative_to(local).as_posix())
        if is_remote(target):
            bucket, name = _split(target)
            bucket.blob(name).upload_from_filename(str(path))
        else:
            _copy_file(path, target)


def localize(uri: str, folder: Path | None = None) -> Path:
    """A local folder or file with the content of `uri`: itself when it is local, else downloaded into `folder`."""
    if not is_remote(uri):
        return Path(uri)
    if folder is None:
        raise ValueError(f"{uri} has to be downloaded, and no folder was given for it")
    bucket, name = _split(uri)
    if bucket.blob(name).exists():
        return _download(uri, folder / name.rsplit("/", 1)[-1])
    for file in list_files(uri):
        _download(file.uri, folder / file.path)
    return folder


def copy_tree(source: str, target: str) -> None:
    """Copies all files below one place to another, across stores."""
    for file in list_files(source):
        if is_remote(file.uri) or is_remote(target):
            write_bytes(join(target, file.path), read_bytes(file.uri))
        else:
            _copy_file(Path(file.uri), join(target, file.path))


def delete_tree(uri: str) -> None:
    """Deletes a folder with all that is in it; nothing if there is none."""
    if not is_remote(uri):
        shutil.rmtree(uri, ignore_errors=True)
        return
    for blob in list(_blobs(uri)):
        blob.delete()


def delete_file(uri: str) -> None:
    """Deletes a file; nothing if there is none."""
    if not is_remote(uri):
        Path(uri).unlink(missing_ok=True)
        return
    bucket, name = _split(uri)
    for blob in [b for b in bucket.client.list_blobs(bucket, prefix=name) if b.name == name]:
        blob.delete()


def file_digest(uri: str) -> str:
    """`sha256` of a file's content, in hex."""
    if is_remote(uri):
        return hashlib.sha256(read_bytes(uri)).hexdigest()
    with open(uri, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy_file(source: Path, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    scratch = f"{os.path.dirname(target)}/.tmp-{secrets.token_hex(8)}"
    shutil.copyfile(source, scratch)
    _sync_file(scratch)
    os.replace(scratch, target)


def _scratch(uri: str, data: bytes) -> str:
    """A file beside `uri` that holds `data` safely on the disk."""
    folder = os.path.dirname(uri) or "."
    os.makedirs(folder, exist_ok=True)
    scratch = f"{folder}/.tmp-{secrets.token_hex(8)}"
    with open(scratch, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return scratch


def _sync_file(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    handle = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _download(uri: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    bucket, name = _split(uri)
    bucket.blob(name).download_to_filename(str(target))
    return target


def _split(uri: str) -> tuple["Bucket", str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return _client().bucket(bucket), name.strip("/")


def _blobs(uri: str, limit: int | None = None) -> Iterator["Blob"]:
    bucket, name = _split(uri)
    return bucket.client.list_blobs(bucket, prefix=f"{name}/" if name else "", max_results=limit)


@cache
def _client():
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    emulated = "STORAGE_EMULATOR_HOST" in os.environ
    return storage.Client(project="emulated", credentials=AnonymousCredentials()) if emulated else storage.Client()
