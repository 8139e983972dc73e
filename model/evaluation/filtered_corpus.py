"""Part of a catalogue: what passes a filter. P of C items; positions are numbers from 0, -1 is
none.
"""

from dataclasses import replace

import numpy as np

from model.evaluation.evaluate import Ranked
from model.evaluation.evaluation_set import EvaluationSet
from twinspire_core.search.ragged import Ragged


class FilteredCorpus:
    """Takes lists and queries from the whole catalogue to a part of it, and back.

    Attributes:
      passing: [C] bool, whether an item is in it.
      rows: [P] int64, the part's positions in the whole.
    """

    def __init__(self, passing: np.ndarray) -> None:
        """The part that passes, [C] bool."""
        self.passing = passing
        self.rows = np.flatnonzero(passing)
        self._place = np.full(len(passing) + 1, -1, np.int64)  # of -1, too: none
        self._place[self.rows] = np.arange(len(self.rows))

    def split(self, split: EvaluationSet) -> EvaluationSet:
        """The same queries against the part alone. What users had of the rest still tells them
        apart in slices.
        """
        return replace(
            split,
            truth=self._inside(split.truth),
            past=self._inside(split.past),
            popular=self._order(split.popular),
            lately=self._order(split.lately),
            hot=split.hot[self.rows],
            events=split.events[self.rows],
        )

    def inside(self, ranked: Ranked) -> Ranked:
        """Lists in positions of the whole, in positions of the part."""
        return Ranked(
            self._place[ranked.kept],
            self._place[ranked.excluded] if ranked.excluded is not None else None,
        )

    def outside(self, ranked: Ranked) -> Ranked:
        """Lists in positions of the part, in positions of the whole."""
        back = np.append(self.rows, -1)
        return Ranked(
            back[ranked.kept], back[ranked.excluded] if ranked.excluded is not None else None
        )

    def _inside(self, lists: Ragged) -> Ragged:
        return lists._replace(values=self._place[lists.values])

    def _order(self, order: np.ndarray) -> np.ndarray:
        found = self._place[order]
        return found[found >= 0]
