"""The report of the stage `features` on a day's data, for people, later days and later stages.

`report.json` has its counts and what is unusual; `statistics.json` the distributions of its columns.
"""

from datetime import date
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from twinspire_core.contracts.json_files import JsonFile, JsonPart, StoredModel, to_json


class _Part(BaseModel):
    """A part of the report."""

    # Unlike a `JsonPart` it writes all keys, because a 0 is information for the reader.
    model_config = ConfigDict(frozen=True, extra="ignore")


class MisplacedEvents(_Part):
    """Events in the folder of another day than the day of their time.

    Attributes:
      of_earlier_days: in the day's folder, with a time before the day.
      of_later_days: in the day's folder, with a time after the day; they are left out.
      left_out: in the day's folder, and left out: of later days, or too late.
      stragglers: events of the day in the folders of later days.
      digest: of the stragglers; empty without any.
    """

    of_earlier_days: int = 0
    of_later_days: int = 0
    left_out: int = 0
    stragglers: int = 0
    digest: str = ""


class SnapshotRows(_Part):
    """Records of a snapshot.

    Attributes:
      rows: records that are not malformed.
      rejected: malformed records by reason.
      duplicates: records whose key comes again later.
    """

    rows: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0


class Snapshots(_Part):
    """The snapshots that were read, by day."""

    items: dict[date, SnapshotRows] = Field(default_factory=dict)
    users: dict[date, SnapshotRows] = Field(default_factory=dict)


class ReadDays(_Part):
    """Days of events.

    Attributes:
      first: the oldest day that the run looks for.
      read: how many days have files.
      missing: days without files, between the first that has any and the day.
    """

    first: date
    read: int
    missing: list[date] = Field(default_factory=list)


class ComparedDay(_Part):
    """The day whose statistics the day's were compared with, and the name of its attempt."""

    day: date
    attempt: str


class ValueRange(_Part):
    """The range of a number's values: smallest, 10th, 50th and 90th percentile, largest."""

    low: float
    tenth: float
    median: float
    ninetieth: float
    high: float


class FeatureSkew(_Part):
    """How far a served feature is from the same feature of the training rows (beam_jobs/validation/drift.py).

    Attributes:
      feature: its column.
      kind: of the feature, as the pipeline file has it.
      distance: Jensen-Shannon divergence in bits for numbers, L-infinity distance for categories; 0 for equal
        distributions, 1 for disjoint ones.
      outside: share of the served values that exceed the training range by more than a twentieth of it, or
        are none of its categories.
      trained, served: the ranges of the values; None for categories.
      value: the category whose share differs most; None for numbers.
      trained_share, served_share: of this category.
    """

    feature: str
    kind: str
    distance: float
    outside: float
    trained: ValueRange | None = None
    served: ValueRange | None = None
    value: str | None = None
    trained_share: float | None = None
    served_share: float | None = None


class DayStatistics(_Part):
    """A summary of the day's statistics.

    Attributes:
      rows: examples of the day.
      anomalies: what exceeds the limits of `[statistics]`, in words.
      compared_with: None on the first day.
    """

    rows: int = 0
    anomalies: list[str] = Field(default_factory=list)
    compared_with: ComparedDay | None = None


class FeaturesReport(_Part, StoredModel):
    """The report of a day. That of a refresh counts no examples, and has no statistics.

    Attributes:
      rows: events in the day's folder.
      rejected: malformed events by reason.
      late: events of other days than their folder's.
      duplicates: copies that were dropped.
      excess: events beyond `source.max_user_events`.
      positives: examples of the day.
      users: users with a positive on the day.
      items: items with a positive on the day.
      held_out_positives: examples of users who are held out.
      known_users: users of the longest window at the end of the day.
      corpus_end: items of the corpus at its end.
      unlisted_items: items with events on the day that the items snapshot lacks.
      snapshots: of items and users, that were read.
      days: of events, that were read.
      examples: by day, of the days that have any.
      replayed: users by replayed day.
      statistics: None if the run ended before they were compared.
      skew: of each feature that is compared, the largest first; None if the run ended before.
    """

    FILE: ClassVar[str] = "report.json"

    rows: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    late: MisplacedEvents = MisplacedEvents()
    duplicates: int = 0
    excess: int = 0
    positives: int = 0
    users: int = 0
    items: int = 0
    held_out_positives: int = 0
    known_users: int = 0
    corpus_end: int = 0
    unlisted_items: int = 0
    snapshots: Snapshots = Snapshots()
    days: ReadDays | None = None
    examples: dict[date, int] = Field(default_factory=dict)
    replayed: dict[date, int] = Field(default_factory=dict)
    # Parts that the run did not reach are left out of the file.
    statistics: DayStatistics | None = Field(default=None, exclude_if=lambda part: part is None)
    skew: list[FeatureSkew] | None = Field(default=None, exclude_if=lambda part: part is None)

    def dump(self) -> bytes:
        """The content of the file, in which days are text."""
        return to_json(self.model_dump(mode="json"))


class Column(JsonPart):
    """A column, or the values of all its lists.

    Attributes:
      type: of the values.
      present: rows with a value; lists that are not empty.
      missing: the other rows.
      values: number of values in all rows together.
      min, max: of the finite numbers, exact; None for strings, and without finite numbers.
      distinct: number of different values: exact, or estimated with a standard error of 1%.
      exact: whether `listed` has all values with their counts; else it has those of a sample.
      top: the most frequent values with their counts, which a sample estimates.
      quantiles: the smallest number, the nine deciles and the largest, of the numbers in `listed`.
      listed: numbers in ascending order, or strings, most frequent first.
      counts: how often each of `listed` came.
    """

    type: Literal["string", "int", "float"]
    rows: int
    present: int
    missing: int
    values: int
    min: float | None = None
    max: float | None = None
    distinct: int
    exact: bool
    top: list[tuple[str | float, int]]
    quantiles: list[float] = Field(default_factory=list)
    listed: list[str] | list[float]
    counts: list[int]

    @property
    def shares(self) -> dict[str, float]:
        """The share of each listed string."""
        total = sum(self.counts)
        pairs = zip(self.listed, self.counts, strict=True)
        return {str(value): n / total for value, n in pairs if total}


class Distance(JsonPart):
    """How far a column is from the same column of an earlier day, and how far it may be."""

    measure: Literal["Jensen-Shannon divergence", "L-infinity distance"]
    value: float
    limit: float


class StatisticsFile(JsonFile):
    """`statistics.json`, which beam_jobs/validation/ writes and reads.

    Attributes:
      rows: examples of the day.
      anomalies: what exceeds the limits of `[statistics]`, in words.
      drift: distances from the earlier day's columns.
      known: values of categories seen so far; a category with too many values is left out.
      examples: columns of the day's examples.
      training: columns of the positives that the transform graph is fitted on, for the features
        that are served from the catalogue or the users' table.
    """

    FILE: ClassVar[str] = "statistics.json"

    rows: int = 0
    anomalies: list[str] = Field(default_factory=list)
    drift: dict[str, Distance] = Field(default_factory=dict)
    known: dict[str, list[str]] = Field(default_factory=dict)
    examples: dict[str, Column] = Field(default_factory=dict)
    training: dict[str, Column] = Field(default_factory=dict)

    def dump(self) -> bytes:
        """The content of the file, in one line: the samples are long."""
        return self.model_dump_json().encode()
