"""Records of raw logs that belong to no day: counted, quoted in an error, or written to a file."""

import json
from dataclasses import asdict, dataclass
from typing import TextIO

from twinspire_core.errors import BadData
from twinspire_core.records.csv_lines import encoding_of

SHOWN = 5
"""Records that an error quotes."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no record.

    Attributes:
      place: where in the file, as messages say it: `line 7`.
      text: the line, cut to 500 characters.
    """

    file: str
    place: str
    reason: str
    text: str


class Aside:
    """Records that belong to no day: written to a file, or an error at the end of reading."""

    def __init__(self, file: TextIO, keep_going: bool) -> None:
        self._file = file
        self._keep_going = keep_going
        self._shown: list[Malformed] = []
        self.count = 0
        self.lines = 0  # of these, lines that never became a row
        self.advice = ""  # an option that would read them

    def take(self, record: Malformed, is_row: bool = False) -> None:
        """Counts a record, and keeps it for the file or the error."""
        self.count += 1
        # Rows without a day are counted as rows where they are read.
        self.lines += not is_row
        if record.reason.startswith("not UTF-8") and not self.advice:
            self.advice = encoding_advice(record.file)
        if self._keep_going:
            self._file.write(json.dumps(asdict(record)) + "\n")
        if len(self._shown) < SHOWN:
            self._shown.append(record)

    def close(self, most: int) -> None:
        """Ends the reading.

        Raises:
          BadData: more than `most` records were set aside.
        """
        self._file.close()
        if self.count > most:
            places = "\n".join(
                f"  - {r.file}, {r.place}: {r.reason}\n    {r.text[:160]}" for r in self._shown
            )
            left = self.count - len(self._shown)
            more = f"\n  and {left:,} more" if left else ""
            remedy = (
                f"Only {most:,} may be set aside: correct the others, or add options that say how the file is written"
                if self._keep_going
                else "Correct them, or set them aside with --rejected FILE"
            )
            advice = f"{self.advice} " if self.advice else ""
            raise BadData(
                f"Every record needs a day, but {self.count:,} cannot be read, or have no time, or one"
                f" before 1990 or after tomorrow:\n{places}{more}\n{advice}{remedy}. Nothing was written."
            )


def encoding_advice(file: str) -> str:
    """Advice on the encoding of a CSV file that is not UTF-8; empty if only stray bytes are not."""
    likely = encoding_of(file)
    return "" if likely == "utf-8" else f"{file} looks like {likely}: add --encoding {likely}."
