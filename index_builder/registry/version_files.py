"""Files of a version: compared with its manifest, and brought to a local folder."""

import contextlib
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twinspire_core import storage
from twinspire_core.contracts.version_manifest import FILE, File, Manifest, is_id
from twinspire_core.errors import BadData

_AT_ONCE = 8
_SCRATCH = ".tmp-"
_FOR_OTHERS = ("tensorflow_serving/",)  # folders that only other programs read
_UNUSED = 7 * 24 * 3600  # seconds; copies that were neither opened nor kept for so long are deleted


def verify_files(place: str, described: Manifest) -> None:
    """Compares the files below a place with a manifest.

    Raises:
      BadData: one is missing, truncated or altered.
    """
    stored = {file.path: file for file in storage.list_files(place)}

    def problem(path: str, expected: File) -> str | None:
        file = stored.get(path)
        if file is None:
            return f"{path} of {described.version} is missing"
        # It may be deleted since it was listed
        with contextlib.suppress(FileNotFoundError):
            # The size first: it was listed, while a digest reads the whole file
            if file.size == expected.size and storage.file_digest(file.uri) == expected.sha256:
                return None
        return f"{path} of {described.version} differs from its digest"

    # Each digest reads a whole file, perhaps from a store: several at a time.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = pool.map(problem, described.files.keys(), described.files.values())
        problems = [outcome for outcome in outcomes if outcome]
    if problems:
        raise BadData(
            f"The files of a version must match its manifest; {problems[0]} in {place}. "
            "The file was truncated or changed later. Restore it, or roll back."
        )


def fetched(place: str, described: Manifest, home: Path) -> Path:
    """A local folder with a version's files, verified: the place itself if it is local, else a copy at
    `home`.

    A copy is downloaded next to `home` and moved there when it is complete. A damaged copy is replaced;
    copies that nobody uses any more are deleted.

    Raises:
      BadData: the stored files do not match the manifest.
    """
    if not storage.is_remote(place):
        verify_files(place, described)
        return Path(place)
    home.parent.mkdir(parents=True, exist_ok=True)
    # Before it is read, so that nobody deletes it meanwhile
    keep(home)
    if not _is_whole(home, described):
        _download(place, described, home)
    _forget(home.parent)
    return home


def keep(home: Path) -> None:
    """Marks a copy as used: it is not deleted for a week."""
    with contextlib.suppress(OSError):
        os.utime(home)


def own_files(described: Manifest) -> Manifest:
    """The manifest without the files that only other programs read."""
    own = {path: file for path, file in described.files.items() if not path.startswith(_FOR_OTHERS)}
    return described.model_copy(update={"files": own})


def _download(place: str, described: Manifest, home: Path) -> None:
    # On the disk of the copy, so that moving it there is atomic
    with tempfile.TemporaryDirectory(
        prefix=_SCRATCH, dir=home.parent, ignore_cleanup_errors=True
    ) as scratch:
        fresh = Path(scratch, "fresh")
        try:
            storage.download(place, fresh, [*described.files, FILE])
        except FileNotFoundError as e:
            raise BadData(
                f"The files of a version must match its manifest; {e} is missing. It was deleted."
                " Use another version."
            ) from e
        verify_files(str(fresh), described)
        if home.exists() and not _is_whole(home, described):
            os.rename(home, Path(scratch, "damaged"))
        # Another process may have put its whole copy there meanwhile; then that one stays.
        with contextlib.suppress(OSError):
            os.rename(fresh, home)


def _forget(cache: Path) -> None:
    """Deletes unused copies, and what killed downloads left: a server may run for years.

    A server marks the copy that it serves (`keep`), as it reads files of users when they are asked for.
    Other readers that use a copy for longer than `_UNUSED` open it again.
    """
    for copy in cache.iterdir():
        ours = is_id(copy.name) or copy.name.startswith(_SCRATCH)
        # Another process may be deleting it too
        with contextlib.suppress(OSError):
            if ours and time.time() - copy.stat().st_mtime > _UNUSED:
                shutil.rmtree(copy)


def _is_whole(home: Path, described: Manifest) -> bool:
    try:
        verify_files(str(home), described)
    except BadData:
        return False
    return True
