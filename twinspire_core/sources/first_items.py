"""A source of a corpus that has become longer since: it goes on to list what it knows.

U queries, C items of the corpus, of which the first N are those that the source was made of.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists, Source, SourceTables


@dataclass(frozen=True, slots=True)
class OfFirstItems(Source):
    """What another source lists, to which all further items are outside of the corpus. It stands in
    that one's place, and has no name of its own.

    Attributes:
      source: of the first items.
      size: N, how many they are.
    """

    source: Source
    size: int

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None: it is made of another source."""
        return None

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """As the other source, whatever is said of further items."""
        if exclude is not None:
            exclude = exclude.where(exclude.values < self.size)
        if passing is not None:
            passing = passing[: self.size]
        return self.source.lists(
            _of_first(queries, self.size), depth, exclude=exclude, passing=passing
        )


def _of_first(queries: Queries, size: int) -> Queries:
    """Queries in which items from `size` on are outside of the corpus: -1."""
    past = queries.past
    personal = queries.personal
    if past.values.max(initial=-1) >= size:
        past = past._replace(values=np.where(past.values < size, past.values, -1))
    if personal is not None and personal.item.max(initial=-1) >= size:
        personal = replace(personal, item=np.where(personal.item < size, personal.item, -1))
    return replace(queries, past=past, personal=personal)
