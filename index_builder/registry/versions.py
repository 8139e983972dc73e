"""Reads the versions of a recommender, and finds the one that a user names.
index_builder/registry/registry.py says how they are stored, and changes them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from index_builder.registry.parents import parent_of
from index_builder.registry.version_files import fetched, keep, own_files, verify_files
from index_builder.registry.version_log import Entry, LogFiles, State, version_date
from twinspire_core import storage
from twinspire_core.contracts import version_manifest
from twinspire_core.contracts.version_manifest import Manifest, is_id
from twinspire_core.display.table import counted
from twinspire_core.errors import BadData, UsageError, shorten

_LISTED = 8
_RULE = (
    "Name a version by its id, by a unique beginning of its id, or by a day, which means its"
    " newest accepted version (its only version, where one is to be changed)"
)


def find_version(text: str, state: State, pipeline: str, *, to_change: bool = False) -> str:
    """The id of the version that a user names.

    Args:
      text: an id, the beginning of one, or a day as 2017-10-16.
      state: the state of the log.
      pipeline: name of the recommender, for messages.
      to_change: whether the version will be changed. Then a day means its only version, accepted or not,
        and is refused if it has several.

    Raises:
      UsageError: the text matches no version, or more than one; the message lists the candidates.
    """
    if text in state.fate:
        return text
    stored = [version for version in state.fate if version not in state.pruned]
    begun = [version for version in stored if text and version.startswith(text)]
    day = _day(text)
    accepted = [version for version in state.by_day() if version_date(version) == day]
    # For reading, a day means its newest version. A change must name its version unambiguously
    if accepted and not to_change:
        return accepted[-1]
    if len(begun) == 1 and (to_change or not day):
        return begun[0]
    if begun:
        raise UsageError(
            f"{_RULE}; {pipeline} has {counted(len(begun), 'version')} whose ids begin with {text!r}:"
            f" {_listed(begun, state)}. Give more of the id."
        )
    raise UsageError(
        f"{_RULE}; {pipeline} has no version {shorten(text)}. It has"
        f" {_listed(stored, state) or 'none yet'}. `twinspire versions PIPELINE` lists all."
    )


def _day(text: str) -> date | None:
    # Python also parses forms that Twinspire does not document, such as 20171016
    with suppress(ValueError):
        return date.fromisoformat(text) if len(text) == len("2017-10-16") else None
    return None


def _listed(versions: Iterable[str], state: State) -> str:
    """Candidates, the newest day first, each with its status."""
    newest = sorted(versions, reverse=True)
    more = f" and {len(newest) - _LISTED} older" if len(newest) > _LISTED else ""
    return ", ".join(f"{name} ({state.status(name)})" for name in newest[:_LISTED]) + more


_Date = date  # which the fields called `date` hide


@dataclass(frozen=True, slots=True)
class Status:
    """A version as the log describes it.

    Attributes:
      status: `live`, `accepted` (by the gate, or despite it), `refused` or `rolled back`.
      reason: why it has that status.
      stored: whether its files are still there.
      corpus_date: the day of its corpus; later than its own day if it was refreshed.
      refreshes: the version whose towers it has; None if it was trained itself.
    """

    version: str
    date: date
    status: str
    at: datetime
    reason: str
    pinned: bool
    stored: bool
    corpus_date: _Date
    refreshes: str | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of one recommender.

    Attributes:
      root: local path, or a place in an object store.
      pipeline: name of the recommender.
    """

    root: str
    pipeline: str

    def log(self, known: Sequence[Entry] = ()) -> list[Entry]:
        """All entries, oldest first.

        Args:
          known: the first entries, which never change and are not read again.
        """
        return self._log_files.read(known)

    def state(self) -> State:
        """The state of the log."""
        return State.of(self.log())

    def live(self) -> str | None:
        """The live version, by the last entry."""
        # Servers ask every two seconds, so only one entry is read, not the whole log
        last = self._log_files.newest()
        return last.live if last else None

    def find(self, text: str | None = None, *, to_change: bool = False) -> str:
        """The version with this id, this beginning of an id, or this day; by default the live version.

        Args:
          to_change: as `find_version` takes it.

        Raises:
          UsageError: nothing is live, or the text means no version or more than one.
        """
        if text is None:
            if live := self.live():
                return live
            raise UsageError(
                f"{self.pipeline} has no live version in {self.root}. Make one: twinspire run"
                " PIPELINE --date DATE. If the gate refused versions, `twinspire versions PIPELINE`"
                " lists them."
            )
        # A full id needs no log
        if is_id(text) and storage.exists(self.place(text, version_manifest.FILE)):
            return text
        return find_version(text, self.state(), self.pipeline, to_change=to_change)

    def manifest(self, version: str) -> Manifest:
        """The manifest of a stored version.

        Raises:
          UsageError: there is no such version. BadData: its manifest is missing, cannot be read, or is
          that of another version or pipeline.
        """
        path = self.place(version, version_manifest.FILE)
        data = None
        # Text that is not an id must not become part of a path
        if is_id(version):
            with suppress(FileNotFoundError):
                data = storage.read_bytes(path)
        if data is None:
            folders = self.folders()
            if version in folders:
                raise BadData(
                    f"The files of a version must be complete; {path} is missing. Somebody deleted or"
                    " copied the version in part. Restore it, or roll back."
                )
            raise UsageError(
                f"{self.pipeline} has no version {shorten(version)} in {self.root}. The newest are:"
                f" {', '.join(folders[-5:]) or 'none'}. `twinspire versions PIPELINE` lists all."
            )
        described = Manifest.parse(data, path)
        if described.version != version:
            raise BadData(
                f"A manifest must be in the folder of its version; {path} is the manifest of"
                f" {described.version}. Somebody copied it there. Restore the right one, or roll back."
            )
        if described.pipeline != self.pipeline:
            raise BadData(
                f"The versions of {self.pipeline} must not be mixed with those of another pipeline;"
                f" {path} is of {described.pipeline}. Somebody copied it there. Roll back, and run"
                f" its day with the pipeline file of {self.pipeline}."
            )
        if not described.has_own_id():
            raise BadData(
                "A version's id must match its pipeline, its day and the digests of its files; the id"
                f" in {path} does not. Somebody changed the file. Restore it, or roll back."
            )
        return described

    def usable(self, version: str) -> Manifest:
        """The manifest of a version that this release can serve.

        Raises:
          UsageError or BadData: as `manifest` and `Manifest.check_format`.
        """
        described = self.manifest(version)
        described.check_format()
        return described

    def place(self, version: str, path: str) -> str:
        """The path of a file of a version; the file may be missing."""
        return self._place("versions", version, path)

    def folder(self, version: str) -> str:
        """The folder of a version."""
        return self._place("versions", version)

    def folders(self) -> list[str]:
        """Names of all folders of versions, published or not."""
        return storage.list_names(self._place("versions"))

    def is_abandoned(self, version: str, *, before: float) -> bool:
        """Whether a folder has files, and none was written since `before`, seconds since 1970."""
        written = storage.last_written(self.folder(version))
        return written is not None and written < before

    def accepted_before(self, day: date) -> Manifest | None:
        """The parent of a day (index_builder/registry/parents.py); None if it has none."""
        version = parent_of(self.state(), day)
        return self.manifest(version) if version else None

    def statuses(self, log: Sequence[Entry] | None = None) -> list[Status]:
        """The status of every version in the log, the newest day first.

        Args:
          log: all entries, if they were read already.
        """
        state = self.state() if log is None else State.of(log)
        stored = set(self.folders())
        statuses = [
            Status(
                version=version,
                date=version_date(version),
                status=state.status(version),
                at=entry.at,
                reason=state.reason(version),
                pinned=version in state.pinned,
                # A version that is being deleted still has files
                stored=version in stored and version not in state.pruned,
                corpus_date=state.corpus_date(version),
                refreshes=state.refreshes.get(version),
            )
            for version, entry in state.last.items()
        ]
        return sorted(statuses, key=lambda s: (s.date, s.at), reverse=True)

    def verify(self, version: str) -> Manifest:
        """Compares every stored file with the manifest.

        Raises:
          BadData: a file is missing, truncated or altered, or the version is of an older format.
        """
        described = self.usable(version)
        verify_files(self.folder(version), described)
        return described

    def read(self, version: str, path: str) -> bytes:
        """Reads a file of a version and verifies its digest.

        Raises:
          UsageError: there is no such version, or it has no such file. BadData: it is damaged.
        """
        described = self.manifest(version).files.get(path)
        if described is None:
            raise UsageError(f"The manifest of {version} lists no file {path}.")
        try:
            content = storage.read_bytes(self.place(version, path))
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != described.sha256:
            raise BadData(
                f"The files of a version must match its manifest; {self.place(version, path)} is"
                " missing, or its digest differs. It was changed after it was written. Restore it."
            )
        return content

    def open(self, version: str | None = None, cache: Path | None = None) -> Path:
        """Returns a local folder with a version's verified files. Copies from an object store lack the files
        that only other programs read.

        Args:
          version: as in `find`; by default the live version.
          cache: where versions in an object store are downloaded to; a second call finds them there.

        Raises:
          UsageError: nothing is live, or no such version. BadData: a file does not match the
          manifest.
        """
        wanted = self.find(version)
        home = (cache or Path.home() / ".cache" / "twinspire") / self.pipeline / wanted
        try:
            return fetched(self.folder(wanted), own_files(self.usable(wanted)), home)
        except (BadData, UsageError):
            # If the live version was replaced and deleted while it was read, open the new one
            if version is None and self.live() != wanted:
                return self.open(None, cache)
            raise

    def keep(self, home: Path) -> None:
        """Marks a folder of `open` as still in use: a copy from a store is deleted a week after its
        last mark.
        """
        if storage.is_remote(self.root):
            keep(home)

    @property
    def _log_files(self) -> LogFiles:
        return LogFiles(self._place("log"))

    def _place(self, *parts: str) -> str:
        return storage.join(self.root, self.pipeline, *parts)
