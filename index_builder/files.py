"""Files of a version: compared with its manifest, and brought to a local folder."""

import contextlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from index_builder.manifest import File, Manifest
from twinspire import storage
from twinspire.errors import BadData

_AT_ONCE = 8


def verify_files(place: str, described: Manifest) -> None:
    """Compares the files below a place with a manifest.

    Raises:
      BadData: one is missing, truncated or altered.
    """
    found = {file.path: file for file in storage.list_files(place)}

    def problem(path: str, expected: File) -> str | None:
        file = found.get(path)
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            if file and file.size == expected.size and storage.file_digest(file.uri) == expected.sha256:
                return None
        return f"{path} of {described.version} " + ("differs from its digest" if file else "is missing")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        problems = [p for p in pool.map(lambda item: problem(*item), described.files.items()) if p]
    if problems:
        raise BadData(
            f"A version's files are those of its manifest; {problems[0]} in {place}. "
            "It was truncated or altered after it was written: restore it, or roll back."
        )


def fetched(place: str, described: Manifest, home: Path) -> Path:
    """A local folder with a version's files, verified: the place itself if it is local, else a copy at `home`.

    The copy is downloaded beside `home` and moved there whole, so a killed download leaves nothing that looks like
    one. A damaged copy is replaced.

    Raises:
      BadData: the stored files do not match the manifest.
    """
    if not storage.is_remote(place):
        verify_files(place, described)
        return Path(place)
    if _is_whole(home, described):
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=home.parent, ignore_cleanup_errors=True) as scratch:
        fresh = storage.localize(place, Path(scratch, "fresh"))
        verify_files(str(fresh), described)
        if home.exists() and not _is_whole(home, described):
            os.rename(home, Path(scratch, "damaged"))
        # Another process may have put its whole copy there meanwhile; then that one stays.
        with contextlib.suppress(OSError):
            os.rename(fresh, home)
    return home


def _is_whole(home: Path, described: Manifest) -> bool:
    try:
        verify_files(str(home), described)
    except BadData:
        return False
    return True
