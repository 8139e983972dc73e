"""The files of a registry's log: `00000042.json`, an entry each, numbered without gaps; created only if
absent, and never changed.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from index_builder.registry.version_log import Entry
from twinspire_core import storage
from twinspire_core.errors import BadData

_AT_ONCE = 8
_ENTRY = re.compile(r"[0-9]{8}\.json")


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The log in a folder.

    Attributes:
      folder: local path or `gs://`.
    """

    folder: str

    def read(self, known: Sequence[Entry] = ()) -> list[Entry]:
        """All entries, oldest first.

        Args:
          known: the first ones, which are not read again.

        Raises:
          BadData: an entry is missing, or cannot be read.
        """
        later = range(len(known) + 1, self._last() + 1)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [*known, *pool.map(self._entry, later)]

    def newest(self) -> Entry | None:
        """The last entry; None of an empty log.

        Raises:
          BadData: likewise.
        """
        last = self._last()
        return self._entry(last) if last else None

    def add(self, entry: Entry) -> bool:
        """Writes an entry, unless there is one of its number: whether it was written."""
        content = entry.model_dump_json(indent=1).encode()
        return storage.put_if_absent(self._place(entry.number), content)

    def _last(self) -> int:
        """Number of the last entry. The listing need not be complete: it may be made while entries
        are added. What it lacks is looked for.

        Raises:
          BadData: an entry before the last one is missing.
        """
        names = storage.list_names(self.folder)
        numbers = {int(name[:8]) for name in names if _ENTRY.fullmatch(name)}
        last = max(numbers, default=0)
        for number in range(1, last):
            if number not in numbers and not storage.exists(self._place(number)):
                raise _lost(self._place(number), "it is not there")
        return last

    def _entry(self, number: int) -> Entry:
        place = self._place(number)
        try:
            entry = Entry.model_validate_json(storage.read_bytes(place))
            if entry.number != number:
                raise ValueError(f"it is entry {entry.number}")
            return entry
        except (FileNotFoundError, ValueError) as e:
            raise _lost(place, f"it cannot be read: {e}") from e

    def _place(self, number: int) -> str:
        return storage.join(self.folder, f"{number:08d}.json")


def _lost(place: str, why: str) -> BadData:
    return BadData(
        f"The log's entries are numbered without gaps and never change; of {place}, {why}."
        " Somebody deleted or altered it: restore it from a copy of the registry."
    )
