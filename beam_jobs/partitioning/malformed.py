"""Records that a raw file holds and that no day can take."""

import json
from dataclasses import asdict, dataclass
from typing import TextIO

from twinspire_core.errors import BadData

SHOWN = 5
"""Records quoted in an error."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no record.

    Attributes:
      file: the file it stands in.
      place: where in the file, for people: `line 7`.
      reason: what is wrong with it.
      text: the line itself, cut to 500 characters.
    """

    file: str
    place: str
    reason: str
    text: str


class Aside:
    """Records that belong to no day: written down, or an error at the end of reading."""

    def __init__(self, file: TextIO, keep_going: bool) -> None:
        self._file, self._keep_going = file, keep_going
        self._shown: list[Malformed] = []
        self.count = 0
        self.lines = 0  # those that never became a row

    def take(self, record: Malformed, is_row: bool = False) -> None:
        """Counts a record, and keeps it for the file or the error."""
        self.count += 1
        self.lines += not is_row
        if self._keep_going:
            self._file.write(json.dumps(asdict(record)) + "\n")
        elif len(self._shown) < SHOWN:
            self._shown.append(record)

    def close(self) -> None:
        """Ends the reading.

        Raises:
          BadData: there were such records, and they are not to be set aside.
        """
        self._file.close()
        if self._shown:
            places = "\n".join(
                f"  - {r.file}, {r.place}: {r.reason}\n    {r.text[:160]}" for r in self._shown
            )
            more = (
                f"\n  and {self.count - len(self._shown)} more"
                if self.count > len(self._shown)
                else ""
            )
            raise BadData(
                f"Every record needs a day, but {self.count} cannot be read or have no"
                f" time:\n{places}{more}\nMend them, or set them aside with --rejected FILE."
                " Nothing was written."
            )
