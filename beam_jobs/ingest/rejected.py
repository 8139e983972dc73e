"""Records that are set aside: what is wrong with them, and where they stand."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from beam_jobs.ingest.day_files import SourceFile

KEPT_PER_FILE = 10_000
"""Records of one file that are written down; all are counted."""
_VALUE_LENGTH = 300


class Rejected(NamedTuple):
    """A record that breaks a rule.

    Attributes:
      table: `events`, `items` or `users`.
      day: the date in its folder's name.
      file: URI.
      row: number of the record (see record_blocks.py).
      reason: the rule.
      value: what was found instead.
    """

    table: str
    day: str
    file: str
    row: int
    reason: str
    value: str

    @classmethod
    def of(cls, file: SourceFile, row: int, reason: str, value: str) -> "Rejected":
        """A record of `file`."""
        return cls(file.table, str(file.day), file.uri, row, reason, value[:_VALUE_LENGTH])


def to_json_lines(records: Iterable[Rejected]) -> bytes:
    """One JSON object a line, in the order of file and row."""
    return "".join(
        json.dumps(r._asdict(), ensure_ascii=False) + "\n" for r in sorted(records)
    ).encode()
