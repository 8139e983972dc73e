"""`statistics.json`: what the columns of a day are like, for people, for later days and for the gate.

`beam_jobs/validation/` writes and reads it.
"""

from typing import ClassVar, Literal

from pydantic import Field

from twinspire_core import storage
from twinspire_core.contracts.json_files import JsonFile, JsonPart


class Column(JsonPart):
    """A column, or the values of all its lists.

    Attributes:
      type: of the values.
      rows: all of them.
      present: rows with a value; of lists, those that are not empty.
      missing: the other rows.
      values: in all rows together.
      shortest, longest: values of the shortest and the longest list that is not empty.
      sum, min, max: of the finite numbers; exact. None of strings, and where there are none.
      distinct: different values: exact, or estimated with a standard error of 1%.
      exact: whether `listed` are all values with their counts; else they are those of a sample.
      top: the most frequent values with their counts; of a sample, estimates.
      quantiles: the smallest number, the nine deciles and the largest, as `listed` has them.
      listed: numbers in ascending order, or strings, most frequent first.
      counts: how often each came.
    """

    type: Literal["string", "int", "float"]
    rows: int
    present: int
    missing: int
    values: int
    shortest: int
    longest: int
    sum: float | None = None
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
    """How far a column is from that of an earlier day, and how far it may be."""

    measure: Literal["Jensen-Shannon divergence", "L-infinity distance"]
    value: float
    limit: float


class StatisticsFile(JsonFile):
    """The file.

    Attributes:
      rows: examples of the day.
      anomalies: what is out of the limits of `[statistics]`, in words.
      drift: distances from the earlier day's columns.
      known: values of categories seen so far; a category with too many is left out.
      examples: columns of the day's examples.
      training: columns of the positives that the transform graph is fitted on, of those features
        that the catalogue or the users' table serve.
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

    def store(self, out: str) -> None:
        """Writes the file into a folder, local or `gs://`."""
        storage.write_bytes(storage.join(out, self.FILE), self.dump())
