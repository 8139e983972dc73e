"""Where each source lists a candidate, and with what score; how many sources agree."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from twinspire_core.config.source_names import TITLES
from twinspire_core.display.table import counted
from twinspire_core.fusion.candidate_pool import CONSTANT
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.sources.registry import depth_of
from twinspire_core.sources.source import SourceTables

_PLACE = "place:"
_SCORE = "score:"
_AGREEING = "sources"
_GAIN = "gain"


class SourcePlaces(FeatureGroup):
    """A place is counted from 0. What stands behind the first `Source.depth` of a list is not listed,
    also where longer lists are asked for: that is how far lists went that a ranker was fitted on.
    """

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table."""
        return cls()

    def names(self, sources: Sequence[str]) -> tuple[str, ...]:
        """A place and a score of each source, then what all say together."""
        places = tuple(_PLACE + name for name in sources)
        return (*places, *(_SCORE + name for name in sources), _AGREEING, _GAIN)

    def values(self, pairs: Pairs) -> np.ndarray:
        """From the lists."""
        sources = len(pairs.lists)
        values = np.full((2 * sources + 2, len(pairs)), np.nan, np.float32).T
        values[:, :sources] = [depth_of(name) for name in pairs.lists]
        is_listed = pairs.is_near
        for column, lists in enumerate(pairs.lists.values()):
            listed = np.flatnonzero(is_listed[:, column])
            # The gain is 1 / (1 + place / CONSTANT).
            place = np.rint((1 / pairs.gains[listed, column] - 1) * CONSTANT).astype(np.int64)
            values[listed, column] = place
            values[listed, sources + column] = lists.scores[pairs.query[listed], place]
        # Source by source: a sum over each row of few numbers takes five times as long.
        values[:, -2:] = 0
        for column in range(sources):
            values[:, -2] += is_listed[:, column]
            values[:, -1] += np.where(is_listed[:, column], pairs.gains[:, column], 0)
        return values

    def describe(self, name: str, value: float) -> str:
        """By the source's title."""
        if name.startswith(_PLACE):
            title = TITLES.get(name.removeprefix(_PLACE), name.removeprefix(_PLACE))
            if value >= depth_of(name.removeprefix(_PLACE)):
                return f"not listed by {title}"
            return f"place {value + 1:.0f} of {title}"
        if name.startswith(_SCORE):
            title = TITLES.get(name.removeprefix(_SCORE), name.removeprefix(_SCORE))
            return f"not listed by {title}" if np.isnan(value) else f"score {value:.3g} of {title}"
        if name == _AGREEING:
            return f"listed by {counted(value, 'source')}"
        return f"places of all sources together: {value:.2f}"
