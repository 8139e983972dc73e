"""Where each source lists a candidate, and with what score; how many sources agree."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.config.source_names import TITLES
from twinspire_core.display.table import counted
from twinspire_core.fusion.candidate_pool import CONSTANT
from twinspire_core.ranking.feature_group import FeatureGroup
from twinspire_core.ranking.pairs import Pairs
from twinspire_core.search.ragged import list_offsets
from twinspire_core.sources.candidate_sources import depth_of
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

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """From the lists."""
        scores = [lists.scores for lists in pairs.lists.values()]
        _write(
            *(pairs.query, pairs.gains, pairs.least_gains),
            np.array([depth_of(name) for name in pairs.lists]),
            list_offsets(np.array([of_one.shape[1] for of_one in scores])),
            np.concatenate(scores, axis=1, dtype=np.float32),
            values,
        )

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


@compiled
def _write(
    query_of: Any,
    gains: Any,
    least_gains: Any,
    depths: Any,
    first: Any,
    scores: Any,
    values: Any,
) -> None:
    sources = len(depths)
    for pair in range(len(query_of)):
        agreeing = 0
        together = np.float32(0)
        for source in range(sources):
            gain = gains[pair, source]
            if gain > least_gains[source]:
                # The gain is 1 / (1 + place / CONSTANT).
                place = int((1 / np.float64(gain) - 1) * CONSTANT + 0.5)
                values[source, pair] = place
                values[sources + source, pair] = scores[query_of[pair], first[source] + place]
                agreeing += 1
                together += gain
            else:
                values[source, pair] = depths[source]
                values[sources + source, pair] = np.nan
        values[2 * sources, pair] = agreeing
        values[2 * sources + 1, pair] = together
