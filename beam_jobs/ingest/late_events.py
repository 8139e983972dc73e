"""Which events of a day's folder may be used: those of the day, and those that are late, but not
too late.

Events of earlier days that lie in the day's folder came late: they count in histories of later
days. Those of before `source.late_days`, and those of days to come, are counted and left out.
"""

from datetime import date, timedelta
from typing import NamedTuple, Self

import polars as pl

from beam_jobs import day_plan
from twinspire_core.config.pipeline import Pipeline


class DayBounds(NamedTuple):
    """Times between which events of a day's folder are used, in microseconds since 1970 UTC.

    Attributes:
      oldest: the first moment of the earliest day whose late events are used.
      start: the first moment of the day.
      end: the first moment of the next day.
    """

    oldest: int
    start: int
    end: int

    @classmethod
    def of(cls, pipeline: Pipeline, day: date) -> Self:
        """The bounds of a day, a calendar day of the pipeline's zone."""
        return cls(
            oldest=day_plan.start_of(
                day - timedelta(days=pipeline.source.late_days), pipeline.zone
            ),
            start=day_plan.start_of(day, pipeline.zone),
            end=day_plan.start_of(day_plan.after(day), pipeline.zone),
        )

    def allow(self, time: pl.Series) -> pl.Series:
        """Whether events of these times are used."""
        return time.is_between(self.oldest, self.end, closed="left")

    def count_misplaced(self, time: pl.Series) -> dict[str, int]:
        """Counts events whose time is of another day than their folder.

        Returns:
          `late`: of earlier days; `too late`: those among them that are left out; `early`: of later
          days, left out too. Without what there is none of.
        """
        counts = {
            "late": int((time < self.start).sum()),
            "too late": int((time < self.oldest).sum()),
            "early": int((time >= self.end).sum()),
        }
        return {what: n for what, n in counts.items() if n}
