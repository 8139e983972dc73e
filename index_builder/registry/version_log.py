"""The log of a registry: its entries, the state that they add up to, and its files. Each file such as
`00000042.json` has one entry. Files are numbered without gaps, created only if absent, and never changed.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from twinspire_core import storage
from twinspire_core.errors import BadData

Action = Literal["publish", "refuse", "promote", "rollback", "pin", "unpin", "prune"]
Promote = Literal["auto", "yes", "no"]
# Entries read at the same time. In an object store each one is a request, which mostly waits
_AT_ONCE = 8
_ENTRY = re.compile(r"[0-9]{8}\.json")


class Entry(BaseModel):
    """One line of the log.

    Attributes:
      number: its place in the log, from 1.
      id: random, so that of two writers of equal entries each knows whether its own was stored.
      version: the version that the action is about; for a rollback, the version that goes live again.
      live: the live version after this entry.
      rolled_back: versions from which no later day may train on.
      refreshes: the version whose towers this one has; None if it was trained itself.
      corpus_date: the day of its corpus; None if that is the version's day.
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
    refreshes: str | None = None
    corpus_date: date | None = None


def version_date(version: str) -> date:
    """The day in a version's id."""
    return date.fromisoformat(version[:10])


@dataclass(slots=True)
class State:
    """The state after the entries so far.

    Attributes:
      number: number of the last entry; 0 for an empty log.
      live: the live version.
      fate: by version, `accepted`, `refused` or `rolled back`; accepted ones in the order of their
        acceptance.
      overruled: accepted versions that somebody promoted after the gate had refused them, or after a
        rollback.
      pinned: versions that must not be pruned.
      pruned: versions whose files are deleted, or are being deleted. Their ids are not used again.
      last: by version, the last entry that published, refused or promoted it.
      rolled_back: by version, the entry that rolled it back.
      refreshes: by refreshed version, the one whose towers it has.
      corpus_dates: by refreshed version, the day of its corpus.
    """

    number: int = 0
    live: str | None = None
    fate: dict[str, str] = field(default_factory=dict)
    overruled: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)
    pruned: set[str] = field(default_factory=set)
    last: dict[str, Entry] = field(default_factory=dict)
    rolled_back: dict[str, Entry] = field(default_factory=dict)
    refreshes: dict[str, str] = field(default_factory=dict)
    corpus_dates: dict[str, date] = field(default_factory=dict)

    @classmethod
    def of(cls, log: Iterable[Entry]) -> "State":
        """Reads a log.

        Raises:
          BadData: an entry is missing.
        """
        state = cls()
        for entry in log:
            state.take(entry)
        return state

    def take(self, entry: Entry) -> None:
        """Adds the next entry.

        Raises:
          BadData: an entry between the last one and this one is missing.
        """
        if entry.number != self.number + 1:
            raise BadData(
                f"The entries of the log must be numbered without gaps; {entry.number} comes after"
                f" {self.number}. Somebody deleted an entry. Restore it from a copy of the registry."
            )
        self.number = entry.number
        self.live = entry.live
        version = entry.version
        if entry.refreshes:
            self.refreshes[version] = entry.refreshes
        if entry.corpus_date:
            self.corpus_dates[version] = entry.corpus_date
        if entry.action in ("publish", "promote") and self.fate.get(version) != "accepted":
            if entry.action == "promote":
                self.overruled.add(version)
            # Moved to the end, because it is the newest of its day now
            self.fate.pop(version, None)
            self.fate[version] = "accepted"
        self.fate.update(dict.fromkeys(entry.rolled_back, "rolled back"))
        self.rolled_back.update(dict.fromkeys(entry.rolled_back, entry))
        # A version that was promoted despite the gate stays accepted when equal content is refused again
        if entry.action == "refuse":
            self.fate.setdefault(version, "refused")
        match entry.action:
            case "publish" | "refuse" | "promote":
                self.last[version] = entry
            case "prune":
                self.pruned.add(version)
            case "pin":
                self.pinned.add(version)
            case "unpin":
                self.pinned.discard(version)

    def reason(self, version: str) -> str:
        """Why the version has its fate."""
        is_undone = self.fate[version] == "rolled back"
        return (self.rolled_back if is_undone else self.last)[version].reason

    @property
    def accepted(self) -> list[str]:
        """Versions from which a day may train on: accepted, neither rolled back nor pruned. The oldest
        acceptance is first.
        """
        return [
            version
            for version, fate in self.fate.items()
            if fate == "accepted" and version not in self.pruned
        ]

    def has(self, version: str) -> bool:
        """Whether the log names the version, even if it was pruned before it was published."""
        return version in self.fate or version in self.pruned

    def status(self, version: str) -> str:
        """The status of the version: `live`, or its fate."""
        return "live" if version == self.live else self.fate[version]

    def trained(self, version: str) -> str:
        """The version whose training made its towers; itself unless it is a refresh."""
        return self.refreshes.get(version, version)

    def corpus_date(self, version: str) -> date:
        """The day of its corpus."""
        return self.corpus_dates.get(version, version_date(version))

    def by_day(self) -> list[str]:
        """Accepted versions in the order of their days, then of their acceptance."""
        return sorted(self.accepted, key=version_date)

    def goes_live(self, version: str, promote: Promote, corpus_date: date | None = None) -> bool:
        """Whether an accepted version goes live when it is published. A version that was rolled back goes
        live only if somebody promotes it.
        """
        if promote == "no" or self.fate.get(version) == "rolled back":
            return False
        return promote == "yes" or self.live is None or not self.behind(version, corpus_date)

    def behind(self, version: str, corpus_date: date | None = None) -> str | None:
        """Which part of a version is older than in the live version: its `training`, its `catalogue`, or
        none.
        """
        if self.live is None:
            return None
        if version_date(version) < version_date(self.live):
            return "training"
        is_older = (corpus_date or self.corpus_date(version)) < self.corpus_date(self.live)
        return "catalogue" if is_older else None

    def next(
        self,
        action: Action,
        version: str,
        reason: str,
        live: str | None,
        *,
        rolled_back: Iterable[str] = (),
        refreshes: str | None = None,
        corpus_date: date | None = None,
    ) -> Entry:
        """The next entry."""
        return Entry(
            number=self.number + 1,
            id=secrets.token_hex(8),
            at=datetime.now(UTC),
            action=action,
            version=version,
            reason=reason,
            live=live,
            rolled_back=tuple(rolled_back),
            refreshes=refreshes,
            corpus_date=corpus_date,
        )


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The log in a folder.

    Attributes:
      folder: local path, or a place in an object store.
    """

    folder: str

    def read(self, known: Sequence[Entry] = ()) -> list[Entry]:
        """All entries, oldest first.

        Args:
          known: the first entries, which are not read again.

        Raises:
          BadData: an entry is missing, or cannot be read.
        """
        # Entries never change, so a server that follows the log reads only new ones
        later = range(len(known) + 1, self._last() + 1)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [*known, *pool.map(self._entry, later)]

    def newest(self) -> Entry | None:
        """The last entry; None of an empty log.

        Raises:
          BadData: an entry is missing, or cannot be read.
        """
        last = self._last()
        return self._entry(last) if last else None

    def add(self, entry: Entry) -> bool:
        """Writes an entry unless its number is taken. Returns whether it was written."""
        return storage.put_if_absent(
            self._place(entry.number), entry.model_dump_json(indent=1).encode()
        )

    def _last(self) -> int:
        """Number of the last entry. A listing made while entries are added may lack some, so the next numbers
        are looked up one by one.

        Raises:
          BadData: an entry before the last one is missing.
        """
        names = storage.list_names(self.folder)
        numbers = {int(name[:8]) for name in names if _ENTRY.fullmatch(name)}
        last = max(numbers, default=0)
        # A lost entry may be a rollback or a refusal, so the other entries must not be used without it
        for number in range(1, last):
            if number not in numbers and not storage.exists(self._place(number)):
                raise _lost(self._place(number), "the entry is missing")
        return last

    def _entry(self, number: int) -> Entry:
        path = self._place(number)
        try:
            entry = Entry.model_validate_json(storage.read_bytes(path))
            if entry.number != number:
                raise ValueError(f"the file holds entry {entry.number}")
            return entry
        except (FileNotFoundError, ValueError) as e:
            raise _lost(path, f"the entry cannot be read: {e}") from e

    def _place(self, number: int) -> str:
        return storage.join(self.folder, f"{number:08d}.json")


def _lost(path: str, why: str) -> BadData:
    return BadData(
        f"The entries of the log must be numbered without gaps and must not change; {path}: {why}."
        " Somebody deleted or changed it. Restore it from a copy of the registry."
    )
