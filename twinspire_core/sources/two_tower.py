"""The two-tower as a candidate source: its lists are searched for elsewhere, and given."""

from typing import Self

import numpy as np

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists, Source, SourceTables


class TwoTower(Source):
    """Lists nothing by itself: `CandidateSources.retrieve` takes lists that are given."""

    name = source_names.TWO_TOWER

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """It is made of no table."""
        return cls()

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """Empty lists."""
        return ScoredLists.empty(len(queries), depth)
