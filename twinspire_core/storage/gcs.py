"""Objects of Google Cloud Storage, for `twinspire_core.storage` alone, whose functions have the full
descriptions.

Google's library is imported at the first use. Its errors become ours: TryAgain when a retry may help,
UsageError when it will not.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial, wraps
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from twinspire_core.errors import TryAgain, UsageError
from twinspire_core.storage.store import FileInfo, open_object

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket, Client

P = ParamSpec("P")
R = TypeVar("R")


def translated(call: Callable[P, R]) -> Callable[P, R]:
    """Turns the library's errors into ours, naming the object."""

    @wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        from google.api_core.exceptions import Forbidden, NotFound, Unauthorized
        from google.auth.exceptions import DefaultCredentialsError

        try:
            return call(*args, **kwargs)
        except NotFound as e:
            raise UsageError(
                f"The bucket of {args[0]} does not exist: {e}. Create it, or correct its name."
            ) from e
        except (Forbidden, Unauthorized, DefaultCredentialsError) as e:
            raise UsageError(
                f"This account has no access to {args[0]}: {e}. Set"
                " GOOGLE_APPLICATION_CREDENTIALS, or ask for read and write access to the bucket."
            ) from e
        except temporary() as e:
            raise TryAgain(
                f"Google Cloud Storage did not answer for {args[0]}: {e}. Try again later."
            ) from e

    return inner


@cache
def temporary() -> tuple[type[Exception], ...]:
    """Errors that a retry may solve. The library raises them after it has retried for two minutes."""
    from google.api_core.exceptions import RetryError, ServerError, TooManyRequests
    from google.auth.exceptions import TransportError
    from requests import RequestException

    busy = (RetryError, ServerError, TooManyRequests)
    return (*busy, TransportError, RequestException, ConnectionError)


def of_object(call: Callable[P, R]) -> Callable[P, R]:
    """As `translated`; raises FileNotFoundError where there is no such object."""

    @translated
    @wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        from google.api_core.exceptions import NotFound

        try:
            return call(*args, **kwargs)
        except NotFound as e:
            raise FileNotFoundError(args[0]) from e

    return inner


@translated
def exists(uri: str) -> bool:
    """Whether there is an object, or one below it."""
    # A folder exists only by the objects below it.
    return blob(uri).exists() or next(_below(uri, limit=1), None) is not None


@translated
def list_files(uri: str) -> list[FileInfo]:
    """All objects below a folder. Digests are `crc32c:…`."""
    listed = []
    start = len(uri.rstrip("/")) + 1
    for entry in _below(uri):
        if entry.name.endswith("/"):
            continue  # a folder that Google's console made: an object without content
        place = f"gs://{entry.bucket.name}/{entry.name}"
        # Every object has this one; objects that were composed of others have no MD5.
        digest = f"crc32c:{entry.crc32c}"
        written = entry.updated.timestamp()
        listed.append(FileInfo(place, place[start:], entry.size, written, digest))
    return listed


@translated
def list_names(uri: str) -> set[str]:
    """Names directly below a folder."""
    bucket, name = _split(uri)
    start = f"{name}/" if name else ""
    pages = bucket.client.list_blobs(bucket, prefix=start, delimiter="/")
    # The prefixes are known only after all pages were read.
    full_names = {blob.name for blob in pages} | set(pages.prefixes)
    return {name[len(start) :].strip("/") for name in full_names if name != start}


@of_object
def read_bytes(uri: str) -> bytes:
    """The content of an object; FileNotFoundError if there is none."""
    return bytes(blob(uri).download_as_bytes())


def open_bytes(uri: str) -> BufferedReader:
    """Opens an object to read parts of it; FileNotFoundError if there is none."""
    return open_object(_size(uri), partial(_read_part, uri))


@of_object
def _size(uri: str) -> int:
    reloaded = blob(uri)
    reloaded.reload()
    return int(reloaded.size)


@of_object
def _read_part(uri: str, start: int, length: int) -> bytes:
    return bytes(blob(uri).download_as_bytes(start=start, end=start + length - 1))


@translated
def write_bytes(uri: str, data: bytes) -> None:
    """Writes an object."""
    blob(uri).upload_from_string(data)


@translated
def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates an object unless there is one; see `storage.put_if_absent`."""
    from google.api_core.exceptions import PreconditionFailed

    try:
        blob(uri).upload_from_string(data, if_generation_match=0)
        return True
    except PreconditionFailed:
        # It may be our own object: the library repeats a request whose reply was lost.
        return read_bytes(uri) == data
    except temporary():
        try:
            return read_bytes(uri) == data
        except FileNotFoundError:
            # Not written, or not written yet. Nobody can know, so the error is raised.
            pass
        raise


@translated
def upload(uri: str, path: Path) -> None:
    """Writes a local file to an object, its checksum verified by the store."""
    blob(uri).upload_from_filename(str(path))


@of_object
def download(uri: str, path: Path) -> None:
    """Writes an object to a local file, its checksum verified; FileNotFoundError if there is
    none.
    """
    blob(uri).download_to_filename(str(path))


@translated
def copy(source: str, target: str) -> None:
    """Copies an object within the store."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    source_blob = blob(source)
    # A large object takes several calls, each with the token of the call before. The library would
    # not retry them, because of other writers; here there are none.
    token, _, _ = blob(target).rewrite(source_blob, retry=DEFAULT_RETRY)
    while token is not None:
        token, _, _ = blob(target).rewrite(source_blob, token=token, retry=DEFAULT_RETRY)


@translated
def delete_file(uri: str) -> None:
    """Deletes an object; nothing if there is none."""
    from google.api_core.exceptions import NotFound

    with suppress(NotFound):
        blob(uri).delete()


def blob(uri: str) -> "Blob":
    """The object's handle; asks nothing of the store."""
    bucket, name = _split(uri)
    return bucket.blob(name)


def _split(uri: str) -> tuple["Bucket", str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return _client(os.environ.get("STORAGE_EMULATOR_HOST")).bucket(bucket), name.strip("/")


def _below(uri: str, limit: int | None = None) -> Iterator["Blob"]:
    bucket, name = _split(uri)
    prefix = f"{name}/" if name else ""
    blobs: Iterator[Any] = bucket.client.list_blobs(bucket, prefix=prefix, max_results=limit)
    return blobs


# One client for each emulator, so that tests that start another emulator get another client.
@cache
def _client(emulator: str | None) -> "Client":
    # The library reads the bucket's metadata only to name its location in traces. For accounts that may
    # read only objects, that fails and fills audit logs.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    if emulator:
        return storage.Client(project="emulated", credentials=AnonymousCredentials())
    return storage.Client()
