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
_FOR_OTHERS = ("tensorflow_serving/",)  # folders that only other programs read, not Twinspire
_UNUSED = 7 * 24 * 3600  # seconds after which a copy that was neither opened nor kept is deleted


def verify_files(folder: str, described: Manifest) -> None:
    """Compares the files in a folder with a manifest.

    Raises:
      BadData: one is missing, truncated or altered.
    """
    stored = {file.path: file for file in storage.list_files(folder)}

    def problem(path: str, expected: File) -> str | None:
        file = stored.get(path)
        if file is None:
            return f"{path} of {described.version} is missing"
        # It may have been deleted after the listing
        with contextlib.suppress(FileNotFoundError):
            # The size first: the listing gives it, while a digest reads the whole file
            if file.size == expected.size and storage.file_digest(file.uri) == expected.sha256:
                return None
        return f"{path} of {described.version} differs from its digest"

    # Each digest reads a whole file, perhaps from a store: several at a time.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = pool.map(problem, described.files.keys(), described.files.values())
        problems = [outcome for outcome in outcomes if outcome]
    if problems:
        raise BadData(
            f"The files of a version must match its manifest; {problems[0]} in {folder}. "
            "The file was truncated or changed later. Restore it, or roll back."
        )


def fetched(folder: str, described: Manifest, home: Path) -> Path:
    """A local folder with a version's verified files: the folder itself if it is local, else a copy at
    `home`.

    A copy is downloaded next to `home` and moved there when it is complete. A damaged copy is replaced.
    Unused copies are deleted.

    Raises:
      BadData: the stored files do not match the manifest.
    """
    if not storage.is_remote(folder):
        verify_files(folder, described)
        return Path(folder)
    home.parent.mkdir(parents=True, exist_ok=True)
    # Before it is read, so that no other process deletes it meanwhile
    keep(home)
    if not _is_whole(home, described):
        _download(folder, described, home)
    _forget(home.parent)
    return home


def keep(home: Path) -> None:
    """Marks a copy as used: it is not deleted for a week."""
    with contextlib.suppress(OSError):
        os.utime(home)


def own_files(described: Manifest) -> Manifest:
    """The manifest without the files that only other programs read."""
    files = {
        path: file for path, file in described.files.items() if not path.startswith(_FOR_OTHERS)
    }
    return described.model_copy(update={"files": files})


def _download(folder: str, described: Manifest, home: Path) -> None:
    # On the disk of the copy, so that moving it there is atomic
    with tempfile.TemporaryDirectory(
        prefix=_SCRATCH, dir=home.parent, ignore_cleanup_errors=True
    ) as scratch:
        fresh = Path(scratch, "fresh")
        try:
            storage.download(folder, fresh, [*described.files, FILE])
        except FileNotFoundError as e:
            raise BadData(
                f"The files of a version must match its manifest; {e} is missing. It was deleted."
                " Use another version."
            ) from e
        verify_files(str(fresh), described)
        if home.exists() and not _is_whole(home, described):
            os.rename(home, Path(scratch, "damaged"))
        # If another process has moved its complete copy there meanwhile, that copy stays.
        with contextlib.suppress(OSError):
            os.rename(fresh, home)


def _forget(cache: Path) -> None:
    """Deletes unused copies and the remains of killed downloads, because a server may run for years.

    A server marks the copy that it serves (`keep`), because it reads files of users only on request. Other
    readers that need a copy for longer than `_UNUSED` must open it again.
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
