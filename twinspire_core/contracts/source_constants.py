"""`sources.json` of a measure attempt and of a version: constants of candidate sources, and the days
that they were fitted on.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile, JsonPart


class ChoiceDay(JsonPart):
    """What each choice found of a day.

    Attributes:
      day: ISO date.
      users: whose takes were looked for.
      found: by choice, the mean over these users of the metric.
    """

    day: str
    users: int
    found: Mapping[str, float]


class FittedChoice(JsonPart):
    """The constant of a source.

    Attributes:
      choice: such as a half-life, `60d`.
      metric: that it is best at.
      days: that it was fitted on, oldest first; none for a default.
    """

    choice: str
    metric: str | None = None
    days: Sequence[ChoiceDay] = ()


class SourceConstants(JsonFile):
    """The file. Without one, sources with a constant are not there or have their default.

    Attributes:
      format: of the file.
      sources: by name.
    """

    FILE: ClassVar[str] = "sources.json"

    format: int = 1
    sources: Mapping[str, FittedChoice] = {}

    @property
    def choices(self) -> dict[str, str]:
        """The choice of each source."""
        return {name: fitted.choice for name, fitted in self.sources.items()}
