"""A version that follows what users take, events for it, and what it lists then."""

from collections.abc import Mapping

import numpy as np

from serving.version.event_buffer import EventBuffer, Events
from serving.version.live_updates import VersionUpdater, counted_until
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.asking import recommend
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.fusion.rank_fusion import FixedOrder

HOUR = 3_600 * 1_000_000
LATE = 2_000_000_000 * 1_000_000
"""A moment long after the days of these versions."""
WEIGHTS = {"two_tower": 0.6, "popular": 0.3, "history": 0.1}


def publish(
    pipeline, towers, staged, half_life: str, more: Mapping[str, bytes] | None = None
) -> Version:
    """A version whose counts, one for each half-life, fall from the first item to the last, and whose
    fixed order uses the two-tower; with more files.
    """
    counts = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
    order = FixedOrder(weights=WEIGHTS, half_life=half_life)
    files = {FixedOrder.FILE: order.dump(), **(more or {})}
    circle.publish(pipeline, towers, staged, nominators=files, counts=counts)
    return Version.open(pipeline)


def listed(version: Version, k: int = 3) -> list[str]:
    rows = recommend(version, [{}], k, source="popular").rows[0]
    return [circle.ITEMS[row] for row in rows]


def first_after(version: Version, item: str) -> str | None:
    """The first item for somebody who took another one last, of what is taken together."""
    request = {"history": [item]}
    answer = recommend(version, [request], 1, source="co_occurrence").rows[0][0]
    return circle.ITEMS[answer]


class Followed:
    """A version, and a sender of its events; hours are those after the end of its day."""

    def __init__(self, version: Version, moment: int = LATE, most: int = 1000, new_items: int = 0):
        self.version, self.end = version, counted_until(version)
        self.events = EventBuffer(most)
        self.updater = VersionUpdater(version, self.events, moment, new_items)

    def add(self, *sent: tuple[str, float]) -> None:
        """Events by item and hours."""
        times = np.array([self.end + round(hours * HOUR) for _, hours in sent])
        self.events.add(Events.of([item for item, _ in sent], times))

    def visit(self, hours: float, *sent: tuple[str, str]) -> None:
        """Events by user and item, a minute apart."""
        begin = self.end + round(hours * HOUR)
        times = np.array([begin + n * HOUR // 60 for n in range(len(sent))])
        self.events.add(Events.of([item for _, item in sent], times, [user for user, _ in sent]))

    def update(self, hours: float) -> None:
        self.updater.update(self.end + round(hours * HOUR))
