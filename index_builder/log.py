"""The log of a registry: what an entry says, and what all of them together mean. Pure: touches no storage."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Action = Literal["publish", "refuse", "promote", "rollback", "pin", "unpin", "prune"]
Promote = Literal["auto", "yes", "no"]


class Entry(BaseModel):
    """One line of the log.

    Attributes:
      number: its place, from 1.
      id: random; tells two writers of equal entries apart.
      version: the version that the action is about; for a rollback, the one gone back to.
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


def version_date(version: str) -> date:
    """The day in a version's id."""
    return date.fromisoformat(version[:10])


@dataclass(slots=True)
class State:
    """What the entries so far amount to.

    Attributes:
      number: of the last entry; 0 when there is none.
      live: the live version.
      fate: `accepted`, `refused` or `rolled back`, by version; accepted ones in the order of their acceptance.
      pinned: versions that must not be pruned.
      pruned: versions whose files are gone, or are going. Their ids are not used again.
      last: the last entry about each version but pins.
    """

    number: int = 0
    live: str | None = None
    fate: dict[str, str] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    pruned: set[str] = field(default_factory=set)
    last: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, log: Iterable[Entry]) -> "State":
        """Reads a log."""
        state = cls()
        for entry in log:
            state._take(entry)
        return state

    def _take(self, entry: Entry) -> None:
        self.number, self.live = entry.number, entry.live
        version = entry.version
        if entry.action in ("publish", "promote") and self.fate.get(version) != "accepted":
            self.fate.pop(version, None)  # to the end: it is the newest of its day now
            self.fate[version] = "accepted"
        self.fate.update(dict.fromkeys(entry.rolled_back, "rolled back"))
        if entry.action == "refuse":
            self.fate.setdefault(version, "refused")
        if entry.action == "prune":
            self.pruned.add(version)
        if entry.action == "pin":
            self.pinned.add(version)
        if entry.action == "unpin":
            self.pinned.discard(version)
        if entry.action in ("publish", "refuse", "promote"):
            self.last[version] = entry

    @property
    def accepted(self) -> list[str]:
        """Versions that a day may inherit from: accepted, neither rolled back nor pruned; oldest acceptance first."""
        return [version for version, fate in self.fate.items() if fate == "accepted" and version not in self.pruned]

    def accepted_before(self, day: date) -> str | None:
        """The newest accepted version of an earlier day; of two of one day, the one accepted later."""
        earlier = [version for version in self.by_day() if version_date(version) < day]
        return earlier[-1] if earlier else None

    def by_day(self) -> list[str]:
        """Accepted versions in the order of their days, then of their acceptance."""
        return sorted(self.accepted, key=version_date)

    def goes_live(self, version: str, promote: Promote) -> bool:
        """Whether an accepted version goes live when it is published; one rolled back, only when promoted by name."""
        if promote == "no" or self.fate.get(version) == "rolled back":
            return False
        return promote == "yes" or self.live is None or version_date(version) >= version_date(self.live)

    def next(
        self, action: Action, version: str, reason: str, live: str | None, rolled_back: Iterable[str] = ()
    ) -> Entry:
        """The entry that would come next."""
        return Entry(
            number=self.number + 1,
            id=secrets.token_hex(8),
            at=datetime.now(UTC),
            action=action,
            version=version,
            reason=reason,
            live=live,
            rolled_back=tuple(rolled_back),
        )


def parents(log: Iterable[Entry]) -> dict[str, str | None]:
    """By version, the parent that it was measured against: the newest accepted version of an earlier day at that time.

    Its manifest names it only where it was also trained on from there.
    """
    state, found = State(), dict[str, str | None]()
    for entry in log:
        if entry.action in ("publish", "refuse") and entry.version not in found:
            found[entry.version] = state.accepted_before(version_date(entry.version))
        state._take(entry)
    return found
