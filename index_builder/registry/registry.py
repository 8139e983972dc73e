"""The registry: publishes versions, and says which one is live.

Use `Registry(root, pipeline)` to change versions; to read them, `Versions` is enough
(index_builder/registry/versions.py). Its files are below `<root>/<pipeline>/`, on a disk or in an object
store:

    versions/<version>/…      written once, never changed; its manifest last
    log/00000042.json         one entry per change (index_builder/registry/version_log.py); created
                              only if absent
    reserve                   on a disk: space for entries of a rollback or a pruning when it is full

Invariants, which hold at any moment, whichever process is killed:
  1. An entry makes a version accepted or live only while all its files and its manifest are stored.
  2. Entries are numbered without gaps and never change; the last one says which version is live.
  3. So the order is: write files, manifest, entry; read entry, manifest, files; delete: entry,
  manifest, files.
Readers take no lock. Writers race for the next number; the loser reads the winner's entry and
decides again.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from types import MappingProxyType
from typing import Any

from index_builder.registry.version_files import verify_files
from index_builder.registry.version_log import Entry, Promote, State, version_date
from index_builder.registry.versions import Status, Versions
from twinspire_core import storage
from twinspire_core.contracts import version_manifest
from twinspire_core.contracts.version_manifest import File, Manifest, is_id
from twinspire_core.errors import TryAgain, UsageError

_RESERVED = 1 << 16  # bytes: dozens of entries

__all__ = ["Entry", "Registry", "Status", "version_date"]


class Registry(Versions):
    """The versions of one recommender, with all operations that change them."""

    __slots__ = ()

    def publish(
        self,
        staged: str,
        described: Manifest,
        *,
        accepted: bool,
        reason: str,
        promote: Promote = "auto",
        side_files: Mapping[str, bytes] = MappingProxyType({}),
        while_live: str | None = None,
    ) -> Entry:
        """Stores a version and logs it; live if accepted and the rule allows.

        Safe to repeat after any crash: stored files are not written again, and logged entries are not logged
        again.

        Args:
          staged: folder with the files that `described` lists.
          promote: with `auto` the version goes live unless it was rolled back, or the live version or its
            corpus is of a later day; with `yes` always; with `no` never.
          side_files: by name, files about the version that are not part of its content. If an equal version
            was stored before, its side files are kept.
          while_live: a trained version. Nothing is logged unless the live version has the towers of this one.

        Raises:
          BadData: the folder does not match the manifest. Nothing is logged.
          UsageError: a version of this id was pruned. TryAgain: the store did not answer, or other
          towers are live.
        """
        version = described.version

        def decide(state: State) -> Entry | None:
            self._not_pruned(state, version)
            if while_live and (state.live is None or state.trained(state.live) != while_live):
                raise TryAgain(
                    "A refresh can only replace the version that was live when it began,"
                    f" {while_live}; {state.live} has gone live since. Refresh again."
                )
            if accepted:
                return _acceptance(state, described, reason, promote)
            return _refusal(state, described, reason)

        # The entry comes last: it never names a version that is not stored whole
        self._store(staged, described, side_files)
        return self._append(decide) or self.state().last[version]

    def promote(self, version: str, *, reason: str, despite_gate: bool = False) -> Entry:
        """Makes a stored version live; does nothing if it is live already.

        Raises:
          UsageError: it is not stored, or it was refused or rolled back and `despite_gate` is not
          given.
          BadData: a file of it is damaged.
        """

        def decide(state: State) -> Entry | None:
            self._not_pruned(state, version)
            if version not in state.accepted and not despite_gate:
                # A killed publication leaves files without an entry
                fate = state.fate.get(version, "never published")
                raise UsageError(
                    f"Only an accepted version can go live; {version} was {fate}. To overrule this:"
                    f' twinspire promote PIPELINE {version} --despite-gate "REASON".'
                )
            if version == state.live:
                return None
            return state.next("promote", version, reason, version)

        # A damaged version must not go live
        self.verify(version)
        return self._append(decide) or self.state().last[version]

    def rollback(self, to: str | None = None, *, reason: str) -> Entry:
        """Makes an earlier accepted version live again. No later day trains on from the versions after it.

        All accepted versions of later days are rolled back too, because each was trained from the one before.

        Args:
          to: the version to go back to; by default the accepted version that was live before the current one.

        Raises:
          UsageError: there is no such version. BadData: a file of it is damaged.
        """
        log = self.log()
        before = State.of(log)
        earlier = [e.live for e in log if e.live in before.accepted and e.live != before.live]
        target = to or (earlier[-1] if earlier else None)

        def decide(state: State) -> Entry | None:
            if target is None or target not in state.accepted:
                raise UsageError(
                    "A rollback needs an accepted version, by default the one that was live before"
                    f" {state.live}; found {target or 'none'}. Name another one with --to;"
                    " `twinspire versions PIPELINE` lists them."
                )
            by_day = state.by_day()
            newer = by_day[by_day.index(target) + 1 :]
            # Another process may have done it meanwhile
            if target == state.live and not newer:
                return None
            return state.next("rollback", target, reason, target, rolled_back=newer)

        # Checked first, so that a mistake is reported without reading all files
        decide(before)
        self.verify(str(target))
        return self._append(decide) or self.log()[-1]

    def pin(self, version: str, *, remove: bool = False) -> None:
        """Keeps a version from being pruned, or lets it be pruned again."""

        def decide(state: State) -> Entry | None:
            if (version in state.pinned) != remove:
                return None
            if remove:
                return state.next("unpin", version, "unpinned by hand", state.live)
            self._not_pruned(state, version)
            return state.next("pin", version, "pinned by hand", state.live)

        if not remove:
            self.manifest(version)
        self._append(decide)

    def delete(self, version: str) -> None:
        """Deletes a version's files. The log keeps its entries, and its id is not used again.

        Raises:
          UsageError: it is live or pinned.
        """

        def decide(state: State) -> Entry | None:
            if version == state.live or version in state.pinned:
                raise UsageError(
                    f"The live version and pinned versions cannot be deleted; {version} is one of them."
                    " Unpin it, or roll back first."
                )
            if version in state.pruned:
                return None
            return state.next("prune", version, "pruned", state.live)

        # Logged first, so that no reader takes a version for accepted while its files are being deleted
        self._append(decide)
        self._delete_files(version)

    def discard(self, version: str, *, before: float) -> None:
        """Deletes the files of an unfinished publication. Does nothing if the publication finished or is
        still writing.

        The log records it like any pruned version, so that a writer that resumes cannot use its id.

        Args:
          before: as in `unpublished`. It is checked again, because the day may be running again meanwhile.
        """

        def decide(state: State) -> Entry | None:
            if state.has(version) or not self.is_abandoned(version, before=before):
                return None
            return state.next("prune", version, "it was never published", state.live)

        if self._append(decide):
            self._delete_files(version)

    def _delete_files(self, version: str) -> None:
        # The manifest goes first: while it exists, readers take the version for complete
        storage.delete_file(self.place(version, version_manifest.FILE))
        storage.delete_tree(self.folder(version))

    def _store(self, staged: str, described: Manifest, side_files: Mapping[str, bytes]) -> None:
        home = self.folder(described.version)
        # Equal content was stored before; the manifest proves that it is complete
        if storage.exists(storage.join(home, version_manifest.FILE)):
            verify_files(home, described)
            return
        verify_files(staged, described)
        storage.copy_tree(staged, home)
        # Two writers of equal content may have different reports. The second writer describes the stored
        # report
        stored_side_files = {
            name: _create_or_describe(storage.join(home, name), data)
            for name, data in side_files.items()
        }
        whole = described.model_copy(update={"files": {**described.files, **stored_side_files}})
        # Last, because readers take a version that has a manifest for complete
        storage.put_if_absent(storage.join(home, version_manifest.FILE), whole.dump())

    def _append(self, decide: Callable[[State], Entry | None]) -> Entry | None:
        """Logs the entry that `decide` returns for the current state. Returns None if it needs no entry."""
        while entry := decide(self.state()):
            if self._add(entry):
                return entry
            # Another writer took this number: decide again from the new state
        return None

    def _add(self, entry: Entry) -> bool:
        """Writes an entry unless its number is taken. If the disk is full, the reserve makes room."""
        reserve = self._place("reserve")
        try:
            is_added = self._log_files.add(entry)
        except TryAgain:
            if storage.is_remote(self.root) or not storage.exists(reserve):
                raise
            storage.delete_file(reserve)
            return self._log_files.add(entry)
        if not storage.is_remote(self.root) and not storage.exists(reserve):
            with suppress(TryAgain):
                storage.write_bytes(reserve, bytes(_RESERVED))
        return is_added

    def _not_pruned(self, state: State, version: str) -> None:
        if version in state.pruned:
            raise UsageError(
                f"A pruned version cannot be published again with the same id; {version} was pruned"
                f" from {self.root}. Run its day again."
            )


def _acceptance(state: State, described: Manifest, reason: str, promote: Promote) -> Entry | None:
    """The entry about a version that the gate accepted; None if the log already says the same."""
    version = described.version
    live = state.live
    if state.goes_live(version, promote, described.corpus_date):
        live = version
    # Equal content that was accepted before keeps its entry; only the live version can change
    if state.fate.get(version) in (None, "refused"):
        return state.next("publish", version, reason, live, **_origin(described))
    if live == state.live:
        return None
    return state.next("promote", version, reason, live)


def _refusal(state: State, described: Manifest, reason: str) -> Entry | None:
    """The entry about a version that the gate refused; None if the log has one."""
    # If equal content was accepted before, or despite the gate, it stays accepted
    if described.version in state.fate:
        return None
    return state.next("refuse", described.version, reason, state.live, **_origin(described))


def _origin(described: Manifest) -> dict[str, Any]:
    return {"refreshes": described.refreshes, "corpus_date": described.corpus_date}


def _create_or_describe(path: str, data: bytes) -> File:
    """Creates a file unless it exists, and describes the stored one."""
    storage.put_if_absent(path, data)
    return File(sha256=storage.file_digest(path), size=len(storage.read_bytes(path)))


def prunable(versions: Versions, *, keep: int, keep_days: int, as_of: date) -> list[str]:
    """Stored versions that are not among the newest `keep` and are more than `keep_days` days older than
    `as_of`.

    The live version and pinned versions are never included. Versions whose deletion was interrupted are.
    """
    stored = [status for status in versions.statuses() if status.stored]
    old = [status for status in stored[keep:] if (as_of - status.date).days > keep_days]
    return [
        *(s.version for s in old if s.status != "live" and not s.pinned),
        # Pruned, but stored: the deletion was interrupted
        *sorted(versions.state().pruned & set(versions.folders())),
    ]


def unpublished(versions: Versions, *, before: float) -> list[str]:
    """Folders of versions that are not in the log and were not written to since `before`. Their publication
    was killed, or gave up because other towers went live.

    Args:
      before: seconds since 1970; later writes may belong to a publication that goes on.
    """
    names = [name for name in versions.folders() if is_id(name)]
    # Read after the names, so that it includes versions that were logged meanwhile
    state = versions.state()
    return [
        name for name in names if not state.has(name) and versions.is_abandoned(name, before=before)
    ]
