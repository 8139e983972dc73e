"""Objects of S3 (`s3://`) and of Azure Blob Storage (`az://`), for `twinspire_core.storage` alone, whose
functions have the full descriptions.

obstore is imported at the first use. Its settings are the variables `AWS_*` and `AZURE_*`. Every request
may be repeated, so all are, until the store answers. Errors become ours: TryAgain when a retry may help,
UsageError when it will not.
"""

import os
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache, partial, wraps
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

from twinspire_core.errors import TryAgain, TwinspireError, UsageError
from twinspire_core.storage.store import PART, FileInfo, open_object

P = ParamSpec("P")
R = TypeVar("R")

_PATIENCE = 120.0  # seconds in which a request is repeated
_LONGEST_PAUSE = 15.0  # seconds
_AT_ONCE = 4  # parts of an object
_CLIENT = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "1h"}
# The library repeats parts of large objects, but not every kind of request. `_asked` repeats all, and lets
# Ctrl-C through.
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_SERVICES = {"s3": "S3", "az": "Azure"}
_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
# Codes that ask for another try, and a multipart upload that was completed, but whose reply was lost.
_PASSING = re.compile(
    r"status code: (408|409|412|429|5)|RequestTimeout|NoSuchUpload|InvalidBlockList"
)
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound")
# The address is where machines of a cloud ask for credentials if no variable has them.
_NO_ACCESS = re.compile(r"status code: 40[13]|169\.254\.169\.254")
_REFUSED = re.compile("status code: [34]|incorrectly configured region")
_SAID = re.compile("<Code>(.*?)</Code>.*?<Message>([^<\n]*)", re.DOTALL)
_LONGEST = 300  # characters of an error


def _asked(call: Callable[P, R]) -> Callable[P, R]:
    """Repeats a call while the store is away. Turns the library's errors into ours, naming the object."""

    @wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        end, pause = time.monotonic() + _PATIENCE, 0.1
        while True:
            try:
                return call(*args, **kwargs)
            except Exception as error:
                ours = _translated(error, str(args[0]))
                if ours is error:
                    raise
                if not isinstance(ours, TryAgain) or time.monotonic() > end:
                    raise ours from error
            time.sleep(random.uniform(0, pause))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    return inner


def _translated(error: Exception, uri: str) -> Exception:
    """Our error for one of the library; others are returned as they are."""
    if isinstance(error, TwinspireError) or not isinstance(error, _errors()):
        return error
    scheme, text = uri.partition(":")[0], _without_details(error)
    said = _SAID.search(text)
    reason = " ".join((": ".join(said.groups()) if said else text).split())[:_LONGEST]
    if _PASSING.search(text):
        pass
    elif _NO_BUCKET.search(text):
        return UsageError(
            f"The bucket of {uri} does not exist: {reason}. Create it, or correct its name."
        )
    elif isinstance(error, FileNotFoundError):
        return FileNotFoundError(uri)
    elif _NO_ACCESS.search(text):
        return UsageError(
            f"This account has no access to {uri}: {reason}. Set {_VARIABLES[scheme]}, or ask for"
            " read and write access to the bucket."
        )
    elif _REFUSED.search(text):
        return UsageError(
            f"{_SERVICES[scheme]} refused a request for {uri}: {reason}. Correct"
            f" {_VARIABLES[scheme]}, or the path."
        )
    return TryAgain(f"{_SERVICES[scheme]} did not answer for {uri}: {reason}. Try again later.")


def _without_details(error: Exception) -> str:
    return str(error).partition("\n\nDebug source")[0]


@_asked
def exists(uri: str) -> bool:
    """Whether there is an object, or one below it."""
    store, name = _split(uri)
    with suppress(FileNotFoundError):
        if name:
            _library().head(store, name)
            return True
    return any(_library().list(store, name, chunk_size=1))


@_asked
def list_files(uri: str) -> list[FileInfo]:
    """All objects below a folder. Digests are `etag:…` on S3, whose tags tell contents apart."""
    store, name = _split(uri)
    scheme, _, bucket = uri.partition("://")
    bucket = bucket.partition("/")[0]
    entries = _library().list(store, name).collect()
    folders = {str(parent) for entry in entries for parent in PurePosixPath(entry["path"]).parents}
    listed = []
    for entry in entries:
        path = entry["path"]
        # A folder that a console made is an object without content.
        if path == name or (not entry["size"] and path in folders):
            continue
        digest = f"etag:{entry['e_tag']}" if scheme == "s3" else None
        written = entry["last_modified"].timestamp()
        file_uri = f"{scheme}://{bucket}/{path}"
        listed.append(
            FileInfo(file_uri, path[len(name) :].lstrip("/"), entry["size"], written, digest)
        )
    return listed


@_asked
def list_names(uri: str) -> set[str]:
    """Names directly below a folder."""
    store, name = _split(uri)
    listed = _library().list_with_delimiter(store, name)
    paths = [*listed["common_prefixes"], *(entry["path"] for entry in listed["objects"])]
    return {path[len(name) :].strip("/") for path in paths} - {""}


@_asked
def read_bytes(uri: str) -> bytes:
    """The content of an object; FileNotFoundError if there is none."""
    return bytes(_library().get(*_split(uri)).bytes())


def open_bytes(uri: str) -> BufferedReader:
    """Opens an object to read parts of it; FileNotFoundError if there is none."""
    return open_object(_size(uri), partial(_read_part, uri))


@_asked
def _size(uri: str) -> int:
    return int(_library().head(*_split(uri))["size"])


@_asked
def _read_part(uri: str, start: int, length: int) -> bytes:
    return bytes(_library().get_range(*_split(uri), start=start, length=length))


@_asked
def write_bytes(uri: str, data: bytes | Path) -> None:
    """Writes an object."""
    store, name = _split(uri)
    _library().put(store, name, data, chunk_size=PART, max_concurrency=_AT_ONCE)


@_asked
def put_if_absent(uri: str, data: bytes) -> bool:
    """Creates an object unless there is one; see `storage.put_if_absent`."""
    store, name = _split(uri)
    try:
        _library().put(store, name, data, mode="create", use_multipart=False)
        return True
    except _library().exceptions.AlreadyExistsError:
        # It may be our own object: a request whose reply was lost is repeated.
        with suppress(FileNotFoundError):
            return read_bytes(uri) == data
        raise  # another process is just writing or deleting it


def upload(uri: str, path: Path) -> None:
    """Writes a local file to an object."""
    write_bytes(uri, path)


@_asked
def download(uri: str, path: Path) -> None:
    """Writes an object to a local file; FileNotFoundError if there is none."""
    with path.open("wb") as file:
        for part in _library().get(*_split(uri)).stream(min_chunk_size=PART):
            file.write(part)


@_asked
def delete_file(uri: str) -> None:
    """Deletes an object; nothing if there is none."""
    with suppress(FileNotFoundError):
        _library().delete(*_split(uri))


def _split(uri: str) -> tuple[Any, str]:
    """The library's handle of a bucket, and the name of an object in it."""
    scheme, _, place = uri.partition("://")
    bucket, _, name = place.partition("/")
    variables = {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "AZUR"))}
    return _open(scheme, bucket, frozenset(variables.items())), name.strip("/")


# One handle for each set of variables, so that tests that start another server get another handle.
@cache
def _open(scheme: str, bucket: str, variables: frozenset[tuple[str, str]]) -> Any:
    store = _library().store
    kind, settings = store.AzureStore, {}
    if scheme == "s3":
        kind, settings = store.S3Store, {"disable_bulk_delete": True}
    # Of a store in one's own network, which has no certificate.
    is_plain = any(
        name.startswith("AWS_ENDPOINT") and v.startswith("http:") for name, v in variables
    )
    client = {**_CLIENT, "allow_http": is_plain}
    try:
        return kind(bucket, client_options=client, retry_config=_RETRIES, **settings)
    except _library().exceptions.BaseError as error:
        raise UsageError(
            f"{scheme}://{bucket} cannot be opened: {_without_details(error)}. Set"
            f" {_VARIABLES[scheme]}."
        ) from error


@cache
def _library() -> Any:
    try:
        import obstore.exceptions
    except ModuleNotFoundError as error:
        raise UsageError(
            "s3:// and az:// need obstore, which is not installed. Install it: pip install"
            " 'twinspire[obstore]'"
        ) from error
    return obstore


@cache
def _errors() -> tuple[type[Exception], ...]:
    return (_library().exceptions.BaseError, FileNotFoundError)
