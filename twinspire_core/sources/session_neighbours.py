"""The source `session_neighbours`: what others took in sessions that hold what the user took last
(neighbour_lists.py).

A session is what a user took without a pause of `PAUSE`. What is asked for are the items that the
user took last, the newest weighing most. The same ideas: VSTAN (Ludewig et al., *Empirical Analysis
of Session-Based Recommendation Algorithms*, UMUAI 2021), of which the best settings look at few, new
sessions.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core.config import source_names
from twinspire_core.search.ragged import list_places
from twinspire_core.sources.neighbour_lists import NeighbourSource, to_table
from twinspire_core.sources.queries import Queries
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import SourceTables
from twinspire_core.sources.weighted_items import WeightedItems

TABLE = "session_neighbours"
PAUSE = 0.5 / 24
"""Days between two events of a user that are in different sessions."""
NEAR = 2.7
"""Places, from the item taken last, after which an item counts 1/e."""
MOST_ITEMS = 20
"""Items of a session, and of what is asked for, those taken last."""


def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
    """Rows of `neighbour_lists.SCHEMA`, one per session of two items or more.

    Args:
      sequences: what users took, as of a moment.
      corpus: [C] ids of that moment, ascending; positions of the sequences are theirs.
    """
    taken = WeightedItems.of(sequences.sessions(PAUSE), len(corpus)).first(MOST_ITEMS)
    # One item alone leads to no other.
    has_several = (taken.items.lengths > 1)[taken.items.row]
    ages = taken.ages[has_several]
    items = taken.items.where(has_several)
    return to_table(WeightedItems(items, np.ones(len(ages), np.float32), ages))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNeighbours(NeighbourSource):
    """What the nearest sessions hold."""

    name = source_names.SESSION_NEIGHBOURS
    tables = (TABLE,)
    newest = 100
    nearest = 100

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """Of rows of the table; None if there are none."""
        return cls.of_table(tables, 0.0)

    def asked(self, queries: Queries) -> WeightedItems:
        """The items taken last."""
        taken = WeightedItems.of_queries(queries).first(MOST_ITEMS)
        place = list_places(taken.items.lengths)
        return taken._replace(weights=np.exp(-place / NEAR).astype(np.float32))
