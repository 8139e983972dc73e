"""`report.json`: what the stage `features` counted and found unusual, for people and later stages."""

import json
from datetime import date
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from twinspire_core import storage

FILE = "report.json"


class _Part(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MisplacedEvents(_Part):
    """Events that lie in the folder of another day than their time's.

    Attributes:
      of_earlier_days: in the day's folder, and of days before it.
      of_later_days: in the day's folder, and of days after it; they are left out.
      left_out: in the day's folder, and left out, since they are of later days or came too late.
      left_out_of_other_days: the same in the folders of the other days that were read.
      stragglers: of the day, in the folders of later days.
      digest: of these; empty without any.
    """

    of_earlier_days: int = 0
    of_later_days: int = 0
    left_out: int = 0
    left_out_of_other_days: int = 0
    stragglers: int = 0
    digest: str = ""


class SnapshotRows(_Part):
    """Records of a snapshot.

    Attributes:
      rows: those that are not malformed.
      rejected: malformed ones, by reason.
      duplicates: records whose key comes again later.
    """

    rows: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0


class Snapshots(_Part):
    """Snapshots that were read, by their day."""

    items: dict[date, SnapshotRows] = Field(default_factory=dict)
    users: dict[date, SnapshotRows] = Field(default_factory=dict)


class ReadDays(_Part):
    """Days of events.

    Attributes:
      first: the oldest that the run looks for.
      read: how many have files.
      missing: those without, between the first that has any and the day.
    """

    first: date
    read: int
    missing: list[date] = Field(default_factory=list)


class ComparedDay(_Part):
    """Whose statistics the day's were compared with: a day, and the name of its attempt."""

    day: date
    attempt: str


class ValueRange(_Part):
    """Where the values of a number lie.

    Attributes:
      low, high: the least and the largest.
      median: half of the values are no larger.
      tenth, ninetieth: a tenth of the values are no larger, and nine tenths.
    """

    low: float
    tenth: float
    median: float
    ninetieth: float
    high: float


class FeatureSkew(_Part):
    """How far a feature of what is served is from that of the rows that were trained on
    (beam_jobs/validation/drift.py).

    Attributes:
      feature: its column.
      kind: of the feature, as the pipeline file has it.
      distance: of numbers the Jensen-Shannon divergence in bits, of categories the L-infinity
        distance; 0 for the same distribution, 1 for nothing in common.
      outside: share of what is served whose value is beyond the range of those trained on by more
        than a twentieth of it, or is none of the categories.
      trained, served: where the values lie; None of categories.
      value: the category whose share differs most; None of numbers.
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
    """What the day's statistics are like.

    Attributes:
      rows: examples of the day.
      anomalies: what is out of the limits of `[statistics]`, in words.
      compared_with: None on the first day.
    """

    rows: int = 0
    anomalies: list[str] = Field(default_factory=list)
    compared_with: ComparedDay | None = None


class CorpusReport(_Part):
    """The report of a run that makes only what is served: corpus, co-occurrence and users.

    Attributes:
      rows: events in the day's folder.
      rejected: malformed ones, by reason.
      duplicates: copies that were dropped.
      users: users with a positive on the day.
      items: items with a positive on the day.
      known_users: users of the longest window at the end of the day.
      corpus_end: items of the corpus at its end.
      unlisted_items: items with events on the day that the items snapshot lacks.
      unlisted_events: their events.
      snapshots: what was read of items and users.
      days: what was read of events.
    """

    rows: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0
    users: int = 0
    items: int = 0
    known_users: int = 0
    corpus_end: int = 0
    unlisted_items: int = 0
    unlisted_events: int = 0
    snapshots: Snapshots = Snapshots()
    days: ReadDays | None = None

    def dump(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return self.model_dump(mode="json")

    def write(self, out: str) -> None:
        """Writes the report below the stage's output."""
        content = json.dumps(self.dump(), indent=1).encode()
        storage.write_bytes(storage.join(out, FILE), content)


class FeaturesReport(CorpusReport):
    """The report of a day.

    Attributes:
      late: those of other days than their folder's.
      excess: events beyond `source.max_user_events`.
      positives: examples of the day.
      held_out_positives: examples of users who are held out.
      queries: users of the day that versions are measured on.
      held_out_queries: those who are held out, by day.
      corpus_start: items of the corpus at the start of the day.
      examples: by day, of those that have any.
      replayed: users by replayed day.
      rejected_of_other_days: malformed events of the other days that were read.
      duplicates_of_other_days: copies dropped of these.
      statistics: None if the run ended before they were looked at.
      skew: of each feature that is compared, the farthest first; None if the run ended before.
    """

    late: MisplacedEvents = MisplacedEvents()
    excess: int = 0
    positives: int = 0
    held_out_positives: int = 0
    queries: int = 0
    held_out_queries: dict[date, int] = Field(default_factory=dict)
    corpus_start: int = 0
    examples: dict[date, int] = Field(default_factory=dict)
    replayed: dict[date, int] = Field(default_factory=dict)
    rejected_of_other_days: dict[date, int] = Field(default_factory=dict)
    duplicates_of_other_days: int = 0
    statistics: DayStatistics | None = None
    skew: list[FeatureSkew] | None = None

    def dump(self) -> dict[str, Any]:
        """The report as JSON has it."""
        unknown = {name for name in ("statistics", "skew") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=unknown)

    @classmethod
    def find(cls, out: str) -> Self | None:
        """Reads the report of an attempt; None if its files are gone."""
        try:
            return cls.model_validate_json(storage.read_bytes(storage.join(out, FILE)))
        except FileNotFoundError:
            return None

    def of_corpus(self) -> CorpusReport:
        """The part of it that is about the corpus."""
        return CorpusReport.model_validate(self.model_dump())
