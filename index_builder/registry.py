"""Where versions are published: `<root>/<pipeline>/`, on a disk or on `gs://`.

    versions/<version>/…      written once, never changed; its manifest last
    log/00000042.json         one entry per publish, refuse, promote or rollback; created only if absent
    pins/<version>            a version that pruning keeps

Invariants, which hold at any moment and whoever is killed:
  1. An entry names a version only after all its files and its manifest are stored.
  2. Entries are numbered without gaps and never change; the last one says which version is live.
  3. So the order is: write files, manifest, entry; read entry, manifest, files; delete manifest, files.
Readers take no lock. Writers race for the next number; the loser reads the winner's entry and decides anew.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from index_builder import manifest
from index_builder.manifest import Manifest
from twinspire import storage
from twinspire.errors import BadData, UsageError

Action = Literal["publish", "refuse", "promote", "rollback"]
Promote = Literal["auto", "yes", "no"]


class Entry(BaseModel):
    """One line of the log.

    Attributes:
      number: its place, from 1.
      id: random; tells two writers of equal entries apart.
      version: the version published, refused or promoted; for a rollback, the one gone back to.
      live: the live version after this entry.
      rolled_back: versions that no later day may inherit from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    id: str
    at: datetime
    action: Action
    version: str
    reason: str
    live: str | None
    rolled_back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """A version as the log has it.

    Attributes:
      status: `live`, `accepted` (by the gate, or despite it), `refused` or `rolled back`.
      stored: whether its files are still there.
    """

    version: str
    date: date
    status: str
    at: datetime
    reason: str
    pinned: bool
    stored: bool


def version_date(version: str) -> date:
    """The day in a version's id."""
    return date.fromisoformat(version[:10])


@dataclass(frozen=True, slots=True)
class Registry:
    """The versions of one recommender.

    Attributes:
      root: local path or `gs://`.
      pipeline: name of the recommender.
    """

    root: str
    pipeline: str

    def log(self) -> list[Entry]:
        """All entries, oldest first."""
        home = self._place("log")
        names = storage.list_names(home)
        with ThreadPoolExecutor(16) as pool:
            return [Entry.model_validate_json(d) for d in pool.map(lambda n: storage.read_bytes(f"{home}/{n}"), names)]

    def live(self) -> str | None:
        """The live version: what the last entry says."""
        names = storage.list_names(self._place("log"))
        return Entry.model_validate_json(storage.read_bytes(self._place("log", names[-1]))).live if names else None

    def manifest(self, version: str) -> Manifest:
        """The manifest of a stored version.

        Raises:
          UsageError: there is no such version.
        """
        place = self._place("versions", version, manifest.FILE)
        try:
            return Manifest.parse(storage.read_bytes(place), place)
        except FileNotFoundError as e:
            known = ", ".join(storage.list_names(self._place("versions"))[-5:]) or "none"
            raise UsageError(
                f"A version is one of those that `twinspire versions` lists; {version!r} of {self.pipeline} is not "
                f"stored in {self.root}. The newest are: {known}."
            ) from e

    def accepted(self) -> list[str]:
        """Versions that the gate, or a person, accepted and that were not rolled back, in the log's order."""
        return _accepted(self.log())

    def accepted_before(self, day: date) -> Manifest | None:
        """The newest accepted version of an earlier day: the parent of `day`, and the gate's baseline."""
        earlier = [version for version in self.accepted() if version_date(version) < day]
        return self.manifest(max(earlier, key=lambda v: (version_date(v), earlier.index(v)))) if earlier else None

    def publish(
        self, staged: str, described: Manifest, *, accepted: bool, reason: str, promote: Promote = "auto"
    ) -> Entry:
        """Stores a version and logs it; live if accepted and the rule allows.

        Safe to repeat after any crash: what is stored is not written again, what is logged is not logged again.

        Args:
          staged: folder with the files that `described` lists.
          described: its manifest.
          accepted: the gate's verdict.
          reason: why.
          promote: `auto` goes live unless a later day is live or the version was rolled back; `yes` always; `no` never.

        Raises:
          BadData: the folder does not match the manifest. Nothing is logged.
        """
        version = described.version
        self._store(staged, described)

        def decide(log: list[Entry]) -> Entry | None:
            live = log[-1].live if log else None
            if accepted and _goes_live(log, version, promote):
                if live == version:
                    return None
                return _entry(log, "publish" if version not in _accepted(log) else "promote", version, reason, version)
            action: Action = "publish" if accepted else "refuse"
            if any(e.version == version and e.action == action for e in log):
                return None
            return _entry(log, action, version, reason, live)

        return self._append(decide) or next(e for e in reversed(self.log()) if e.version == version)

    def promote(self, version: str, *, reason: str, despite_gate: bool = False) -> Entry:
        """Makes a stored version live.

        Raises:
          UsageError: it is not stored, or the gate refused it and `despite_gate` is not given.
        """
        self.verify(version)
        if version not in self.accepted() and not despite_gate:
            raise UsageError(
                f"Only an accepted version goes live; {version} was refused or rolled back. "
                f'To overrule that: twinspire promote PIPELINE {version} --despite-gate "REASON".'
            )
        return self._append(lambda log: _entry(log, "promote", version, reason, version))

    def rollback(self, to: str | None = None, *, reason: str) -> Entry:
        """Makes an earlier accepted version live again; the versions after it are not inherited from any more.

        Args:
          to: the version to go back to; by default the accepted one that was live before the present one.
          reason: why.

        Raises:
          UsageError: there is no such version.
        """

        def decide(log: list[Entry]) -> Entry:
            live, accepted = (log[-1].live if log else None), _accepted(log)
            past = [e.live for e in log if e.live in accepted and e.live != live]
            target = to or (past[-1] if past else None)
            if target is None or target not in accepted:
                raise UsageError(
                    f"A rollback goes back to an accepted version other than the live one ({live}); "
                    f"found {target or 'none'}. `twinspire versions PIPELINE` lists them."
                )
            undone = [v for v in accepted if v == live or version_date(v) > version_date(target)]
            return _entry(log, "rollback", target, reason, target, tuple(v for v in undone if v != target))

        target = to or decide(self.log()).version
        self.verify(target)
        return self._append(decide)

    def statuses(self) -> list[Status]:
        """Every version of the log, newest day first."""
        log = self.log()
        accepted, live = _accepted(log), (log[-1].live if log else None)
        last = {e.version: e for e in log if e.action != "rollback"}
        undone = {version for e in log for version in e.rolled_back}
        stored, pins = set(storage.list_names(self._place("versions"))), set(storage.list_names(self._place("pins")))

        def status(version: str) -> str:
            if version == live:
                return "live"
            return "accepted" if version in accepted else "rolled back" if version in undone else "refused"

        found = [Status(v, version_date(v), status(v), e.at, e.reason, v in pins, v in stored) for v, e in last.items()]
        return sorted(found, key=lambda s: (s.date, s.at), reverse=True)

    def pin(self, version: str) -> None:
        """Keeps a version from being pruned."""
        self.manifest(version)
        storage.put_if_absent(self._place("pins", version), b"")

    def unpin(self, version: str) -> None:
        """Lets a version be pruned again."""
        storage.delete_file(self._place("pins", version))

    def prunable(self, *, keep: int, keep_days: int, today: date) -> list[str]:
        """Stored versions beyond the newest `keep` and older than `keep_days`; never the live or a pinned one."""
        found = [s for s in self.statuses() if s.stored]
        spare = [s for s in found if s.status != "live" and not s.pinned and (today - s.date).days > keep_days]
        return [s.version for s in spare if s in found[keep:]]

    def delete(self, version: str) -> None:
        """Deletes a version's files. The log keeps its entries.

        Raises:
          UsageError: it is live or pinned.
        """
        if version == self.live() or version in storage.list_names(self._place("pins")):
            raise UsageError(
                f"The live and the pinned versions are kept; {version} is one. Unpin it, or roll back first."
            )
        storage.delete_file(self._place("versions", version, manifest.FILE))
        storage.delete_tree(self._place("versions", version))

    def verify(self, version: str) -> Manifest:
        """Compares every stored file with the manifest.

        Raises:
          BadData: a file is missing, truncated or altered.
        """
        described = self.manifest(version)
        _verify(self._place("versions", version), described)
        return described

    def open(self, version: str | None = None, cache: Path | None = None) -> Path:
        """A local folder with a version's files, its digests verified.

        Args:
          version: by default the live one.
          cache: where versions on `gs://` are downloaded to; a second call finds them there.

        Raises:
          UsageError: nothing is live, or no such version. BadData: a file does not match the manifest.
        """
        version = version or self.live()
        if version is None:
            raise UsageError(
                f"{self.pipeline} has no live version in {self.root}. Make one: twinspire run PIPELINE --date DATE, "
                "or look at `twinspire versions PIPELINE` for what was refused."
            )
        place, described = self._place("versions", version), self.manifest(version)
        if storage.is_remote(place):
            home = (cache or Path.home() / ".cache" / "twinspire") / self.pipeline / version
            if not (home / manifest.FILE).exists():
                storage.localize(place, home)
            place = str(home)
        _verify(place, described)
        return Path(place)

    def _store(self, staged: str, described: Manifest) -> None:
        home = self._place("versions", described.version)
        if storage.exists(storage.join(home, manifest.FILE)):
            _verify(home, described)
            return
        _verify(staged, described)
        storage.copy_tree(staged, home)
        storage.put_if_absent(storage.join(home, manifest.FILE), described.dump())

    def _append(self, decide: Callable[[list[Entry]], Entry | None]) -> Entry | None:
        while True:
            entry = decide(self.log())
            if entry is None:
                return None
            place = self._place("log", f"{entry.number:08d}.json")
            if storage.put_if_absent(place, entry.model_dump_json(indent=1).encode()):
                return entry

    def _place(self, *parts: str) -> str:
        return storage.join(self.root, self.pipeline, *parts)


def _accepted(log: list[Entry]) -> list[str]:
    accepted: list[str] = []
    for entry in log:
        accepted = [version for version in accepted if version not in entry.rolled_back]
        if entry.action in ("publish", "promote") and entry.version not in accepted:
            accepted.append(entry.version)
    return accepted


def _goes_live(log: list[Entry], version: str, promote: Promote) -> bool:
    if promote != "auto":
        return promote == "yes"
    live = log[-1].live if log else None
    undone = {v for e in log for v in e.rolled_back} - set(_accepted(log))
    return version not in undone and (live is None or version_date(version) >= version_date(live))


def _entry(
    log: list[Entry], action: Action, version: str, reason: str, live: str | None, rolled_back: tuple[str, ...] = ()
) -> Entry:
    return Entry(
        number=len(log) + 1,
        id=secrets.token_hex(8),
        at=datetime.now(UTC),
        action=action,
        version=version,
        reason=reason,
        live=live,
        rolled_back=rolled_back,
    )


def _verify(place: str, described: Manifest) -> None:
    found = {file.path: file for file in storage.list_files(place)}
    for path, expected in described.files.items():
        file = found.get(path)
        if file is None or file.size != expected.size or storage.file_digest(file.uri) != expected.sha256:
            problem = "is missing" if file is None else "differs from its digest"
            raise BadData(
                f"A version's files are those of its manifest; {path} of {described.version} {problem} in {place}. "
                "It was truncated or altered after it was written: restore it, or roll back."
            )
