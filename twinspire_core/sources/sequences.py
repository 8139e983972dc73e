"""What each user took, event by event and without the user's id: what fitted sources are made of.

U users, M events of theirs, C items of the corpus.
"""

from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from twinspire_core.search.ragged import Ragged, list_places, positions


class Sequences(NamedTuple):
    """Users' events as of a moment, each user's newest first.

    Attributes:
      items: U lists of positions in the corpus; events of other items are left out.
      ages: [M] float32, days from each event to the moment, not falling within a list.
    """

    items: Ragged
    ages: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, corpus: pa.Array | pa.ChunkedArray) -> Self:
        """Reads rows of `twinspire_core.contracts.feature_schema.SEQUENCES`.

        Args:
          table: the rows.
          corpus: [C] distinct ids.
        """
        items = positions(table["_items"], corpus)
        ages = table["_ages"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(items, ages.astype(np.float32)).where(items.values >= 0)

    def where(self, keep: np.ndarray) -> Self:
        """Only the events where `keep`, [M] bool, holds."""
        return type(self)(self.items.where(keep), self.ages[keep])

    def of_users(self, users: np.ndarray) -> Self:
        """The users of these numbers, [K] int64 ascending."""
        is_wanted = np.zeros(self.items.rows, bool)
        is_wanted[users] = True
        return type(self)(self.items.take(users), self.ages[is_wanted[self.items.row]])

    def newest_users(self, most_events: int) -> Self:
        """The users whose last events are the newest, as many as have `most_events` together; at
        least one. The users stay in their order.
        """
        lengths = self.items.lengths
        if lengths.sum() <= most_events:
            return self
        last = np.full(self.items.rows, np.inf, np.float32)
        is_first = list_places(lengths) == 0
        last[self.items.row[is_first]] = self.ages[is_first]
        order = np.argsort(last, kind="stable")
        fitting = int(np.searchsorted(np.cumsum(lengths[order]), most_events, side="right"))
        return self.of_users(np.sort(order[: max(1, fitting)]))
