"""A version with later items, and a sender of their events.

The version is the circle of twelve items (tests/serving/conftest.py): i11, i10, … are popular, i00, i01, …
trend; who took i05 took i08 and i07 too. Of new items, `a` comes before all others in order of id.
"""

import numpy as np

from serving.version.event_buffer import EventBuffer, Events
from serving.version.live_updates import VersionUpdater, counted_until
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving import rankers
from tests.serving.answers.test_retrieval import files
from tests.serving.asking import recommend
from tests.serving.version.followed_version import HOUR, LATE
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.fusion.rank_fusion import FixedOrder

SECOND = 1_000_000
NAMED = ("two_tower", "history", "popular", "co_occurrence")


def publish(pipeline, towers, staged, half_life: str = "3h") -> Version:
    """A version with four sources and a ranker that the gate did not choose."""
    order = FixedOrder(weights=dict.fromkeys(NAMED, 1 / 4), half_life=half_life)
    ranker = rankers.files(
        ("history", "popular"), ("popular",), lambda rows: rows[:, 0], serves="fixed_order"
    )
    carried = files(order) | ranker
    counts = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
    circle.publish(pipeline, towers, staged, nominators=carried, counts=counts)
    return Version.open(pipeline)


class Sender:
    """Sends events of a time after the version's day, and updates the version as servers do."""

    def __init__(self, version: Version, new_items: int = 100) -> None:
        self.events = EventBuffer(1000)
        self.updater = VersionUpdater(version, self.events, LATE, new_items)
        self.moment = counted_until(version) + HOUR

    def send(self, *sent: tuple[str, str | None], seconds: int = 60) -> Version:
        """Events by user and item, all at once, some seconds after those of before."""
        self.moment += seconds * SECOND
        users, items = zip(*sent, strict=True)
        self.events.add(Events.of(list(items), np.full(len(items), self.moment), list(users)))
        self.updater.update(self.moment)
        return self.updater.version


def takers(item: str, count: int) -> list[tuple[str, str]]:
    return [(f"{item}-{n}", item) for n in range(count)]


def listed(version: Version, k: int = 3, source: str | None = "popular", **query) -> list[str]:
    rows = recommend(version, [query], k, source=source).rows[0]
    return version.ids[rows[rows >= 0]].tolist()
