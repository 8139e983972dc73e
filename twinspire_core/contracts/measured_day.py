"""What versions remember of the days of their line, in `metrics.json`; the gate goes by it."""

from collections.abc import Mapping

from twinspire_core.contracts.json_files import JsonPart
from twinspire_core.contracts.paired_differences import PairedDifferences

MEMORY_DAYS = 30
"""Days before a day of which a version remembers the versions of its line."""


class MeasuredDay(JsonPart):
    """What is remembered of a version of the line.

    Attributes:
      against: its baseline, the version that it was measured against.
      differences: by measure, the mean paired difference of the two that the gate looked at.
      two_tower: the two of them on held-out users of the day itself alone; None where these are so
        many that the day needs no other day.
      best: the best accepted version of then, where that was not the baseline.
      beside_best: the same of the version and that one.
      served: the same of what the two of them serve, their mixes; None where neither has one.
      beside_sources: by source, the same of what was served on the day and of that source alone:
        the parent's mix, on all users who were measured before the day was trained on.
      ranked_beside_mix: the same of the parent's ranker and the parent's mix.
      ranked_beside_sources: by source, the same of the parent's ranker and that source alone.
    """

    against: str
    differences: Mapping[str, float] = {}
    two_tower: PairedDifferences | None = None
    best: str | None = None
    beside_best: PairedDifferences | None = None
    served: PairedDifferences | None = None
    beside_sources: Mapping[str, PairedDifferences] = {}
    ranked_beside_mix: PairedDifferences | None = None
    ranked_beside_sources: Mapping[str, PairedDifferences] = {}
