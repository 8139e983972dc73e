"""All candidate sources, by name; and the sources of one moment together: lists of several of them, and
lists filled up. A new source has a module of its own and a line in twinspire_core/config/source_registry.py.

two_tower      by the vectors
history        what the user took before, by decayed counts
popular        what everybody takes, by decayed counts
co_occurrence  what others took with, just before or just after what the user took last
neighbours     what users took who took the same

U queries, C items of the corpus; items are positions in it, -1 is none. Where a source alone lists
fewer items than are asked for, the most popular ones follow; in the fixed order
(twinspire_core/fusion/rank_fusion.py) its list ends there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core.config.source_registry import ENTRIES, POPULAR, TWO_TOWER
from twinspire_core.contracts import version_manifest
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import own_source
from twinspire_core.sources.popular_and_history import Popular, past_then, popular_order
from twinspire_core.sources.source import (
    POPULAR_HALF_LIFE,
    Fit,
    Queries,
    ScoredLists,
    Source,
    SourceTables,
)


class TwoTower(Source):
    """Lists nothing by itself. Its lists come from a search of vectors, as `Queries.given`."""

    name = TWO_TOWER

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


def fits_of(names: Collection[str]) -> dict[str, Fit]:
    """The tables that some sources need besides the corpus, by name, and the functions that fit them."""
    return {
        table: partial(own_source.fitted, name, fit)
        for name in names
        for table, fit in ENTRIES[name].load().fits.items()
    }


def depth_of(name: str) -> int:
    """How many items of a source's list are candidates of the ranker."""
    depth: int = (ENTRIES[name].load() if name in ENTRIES else Source).depth
    return depth


def read_tables(home: Path) -> dict[str, pa.Table]:
    """The tables of sources that a version carries, by name, from its local folder."""
    files = {name: home / version_manifest.source_table(name) for name in fits_of(ENTRIES)}
    return {name: pq.read_table(file) for name, file in files.items() if file.exists()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSources:
    """Sources as of one moment.

    Attributes:
      by_name: those that could be made, in the order of `ENTRIES`.
      popular: int64, items that may be listed, by events in the count window.
      tables: what the sources are made of.
      passing: [C] bool, items that may be listed; None for all.
    """

    by_name: Mapping[str, Source]
    popular: np.ndarray
    tables: SourceTables
    passing: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        corpus: pa.Table,
        tables: Mapping[str, pa.Table] | None = None,
        half_life: str = POPULAR_HALF_LIFE,
    ) -> Self:
        """All sources that can be made of a corpus and of further tables of the same moment.

        Args:
          corpus: with the columns `_item`, `_popular` and `_lately`.
          tables: by their names in `Source.fits`; those that are missing are not needed.
          half_life: of the source `popular`.
        """
        all_tables = SourceTables(corpus=corpus, others=tables or {}, half_life=half_life)
        made = {
            name: own_source.guarded(name, partial(entry.load().of, all_tables))
            for name, entry in ENTRIES.items()
        }
        return cls(
            by_name={name: source for name, source in made.items() if source is not None},
            popular=popular_order(corpus, "_popular"),
            tables=all_tables,
        )

    def with_half_life(self, half_life: str) -> Self:
        """The same sources with another half-life of `popular`."""
        if half_life == self.tables.half_life:
            return self
        tables = replace(self.tables, half_life=half_life)
        # Only `popular` depends on it. The others, which are costly to make, are kept.
        by_name = {**self.by_name, POPULAR: Popular.of(tables)}
        return replace(self, by_name=by_name, tables=tables)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    @property
    def without_model(self) -> list[str]:
        """Names of the sources that need no towers."""
        return [name for name in self.by_name if name != TWO_TOWER]

    @property
    def costly(self) -> list[str]:
        """Names of the sources whose lists cost more to make again than to keep."""
        return [name for name, source in self.by_name.items() if source.is_costly]

    def among(self, passing: np.ndarray) -> Self:
        """The same sources, which list only items that pass, [C] bool. Histories may still hold others."""
        return replace(self, popular=self.popular[passing[self.popular]], passing=passing)

    def retrieve(
        self, names: Sequence[str], queries: Queries, depth: int, *, exclude: Ragged | None = None
    ) -> dict[str, ScoredLists]:
        """The lists of some sources, each by itself, by name.

        Args:
          names: of sources; one that could not be made lists nothing.
          queries: U of them. Lists that they are given with are taken as they are: nothing excluded
            may be in them.
          depth: the most items of a list.
          exclude: U lists of items that must not be listed.
        """
        lists: dict[str, ScoredLists] = {}
        for name in names:
            if name in queries.given:
                lists[name] = queries.given[name].first(depth)
            elif name in self.by_name:
                lists[name] = self._listed(name, queries, depth, exclude)
            else:
                lists[name] = ScoredLists.empty(len(queries), depth)
        return lists

    def _listed(
        self, name: str, queries: Queries, depth: int, exclude: Ragged | None
    ) -> ScoredLists:
        def call() -> ScoredLists:
            source = self.by_name[name]
            return source.lists(queries, depth, exclude=exclude, passing=self.passing)

        items = self.tables.corpus.num_rows
        return own_source.checked(name, own_source.guarded(name, call), len(queries), depth, items)

    def candidates(
        self, names: Sequence[str], queries: Queries, k: int = 1
    ) -> dict[str, ScoredLists]:
        """The lists that some sources propose to a ranker, by name: of `Source.depth` places, or of k if
        that is more. Arguments as those of `retrieve`.
        """
        # Each source has its own depth, chosen in docs/decisions/0061-ranker.md.
        return {
            name: self.retrieve([name], queries, max(k, depth_of(name)))[name] for name in names
        }

    def filled(self, ranked: np.ndarray, k: int, *, exclude: Ragged | None = None) -> np.ndarray:
        """Lists that are filled up with the most popular items, [U, k] int64, -1 where none are left.

        Args:
          ranked: [U, L] int64, each item once and none excluded, -1 after the end.
          k: length of the lists.
          exclude: U lists of items that must not be listed.
        """
        return past_then(Ragged.of_table(ranked), self.popular, k, exclude=exclude)
