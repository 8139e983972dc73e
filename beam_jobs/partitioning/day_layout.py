"""Which row of the raw files belongs to which day, as a person asks for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from zoneinfo import available_timezones

from beam_jobs.partitioning.calendar_days import UNITS
from beam_jobs.partitioning.log_tables import CsvOptions, Format
from twinspire_core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How rows are told apart by day.

    Attributes:
      time: column of the time; None with `snapshot`.
      time_unit: `s`, `ms` or `us`, for a time that is a number.
      time_zone: IANA name of the zone whose calendar days are meant.
      snapshot: the one day that all rows belong to, for tables of items and users.
      first: rows of earlier days are left out.
      last: rows of later days are left out.
      rename: new column names by old ones.
      format: of the input; `auto` goes by the files' endings.
      csv: what CSV files do not say about themselves.
      text: columns of CSV files that stay text although they hold nothing but numbers.
      done_marker: name of an empty file written into each day's folder after its rows.
    """

    time: str | None = None
    time_unit: str | None = None
    time_zone: str = "UTC"
    snapshot: date | None = None
    first: date | None = None
    last: date | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    format: Format = "auto"
    csv: CsvOptions = field(default_factory=CsvOptions)
    text: Sequence[str] = ()
    done_marker: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) == (self.snapshot is None):
            raise UsageError(
                "Rows go to the day of their time (--time COLUMN), or all to one day (--snapshot"
                " DATE): give one."
            )
        if self.time_unit is not None and self.time_unit not in UNITS:
            raise UsageError(f"--time-unit is one of {', '.join(UNITS)}, found {self.time_unit!r}.")
        if self.time_zone not in available_timezones():
            near = get_close_matches(self.time_zone, available_timezones(), 1)
            raise UsageError(
                f"A time zone is an IANA name, found {self.time_zone!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )
        if self.first and self.last and self.first > self.last:
            raise UsageError(f"--from is not after --to, found {self.first} and {self.last}.")
