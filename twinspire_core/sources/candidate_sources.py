"""The candidate sources of one moment together: the lists of several of them, and lists filled up.

U queries, C items of the corpus; items are positions in it, -1 is none. Where a source alone lists
fewer items than are asked for, the most popular ones follow; in the fixed order
(twinspire_core/fusion/fixed_order.py) its list ends there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core.config.source_names import POPULAR, TWO_TOWER
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.history import past_then
from twinspire_core.sources.popular import Popular, popular_order
from twinspire_core.sources.registry import SOURCES
from twinspire_core.sources.source import HALF_LIFE, Queries, ScoredLists, Source, SourceTables


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSources:
    """Sources as of one moment.

    Attributes:
      by_name: those that are there, in the order of the registry.
      popular: [C] int64, the corpus by events in the count window, of what passes.
      tables: what they are made of.
      passing: [C] bool, what may be listed; None for everything.
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
        half_life: str = HALF_LIFE,
    ) -> Self:
        """All sources that can be made of a corpus and of further tables of the same moment.

        Args:
          corpus: `_item`, `_popular`, `_lately`.
          tables: by `Source.fits`.
          half_life: of `popular`.
        """
        known = SourceTables(corpus=corpus, others=tables or {}, half_life=half_life)
        made = {name: source.of(known) for name, source in SOURCES.items()}
        return cls(
            by_name={name: source for name, source in made.items() if source is not None},
            popular=popular_order(corpus, "_popular"),
            tables=known,
        )

    def with_half_life(self, half_life: str) -> Self:
        """The same sources with another half-life of `popular`."""
        if half_life == self.tables.half_life:
            return self
        tables = replace(self.tables, half_life=half_life)
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
        """Names of the sources whose lists are better kept than made again."""
        return [name for name, source in self.by_name.items() if source.is_costly]

    def among(self, passing: np.ndarray) -> Self:
        """The same sources, which list only items that pass, [C] bool. Items that do not pass may
        still be in a past.
        """
        return replace(self, popular=self.popular[passing[self.popular]], passing=passing)

    def retrieve(
        self, names: Sequence[str], queries: Queries, depth: int, *, exclude: Ragged | None = None
    ) -> dict[str, ScoredLists]:
        """The lists of some sources, each by itself.

        Args:
          names: of sources; one that is not there lists nothing.
          queries: U. Lists that are given are taken as they are, without what is excluded.
          depth: items of a list at the most.
          exclude: U lists of items that must not be listed.

        Returns: by name, up to `depth` places each.
        """
        lists: dict[str, ScoredLists] = {}
        for name in names:
            if name in queries.given:
                lists[name] = queries.given[name].first(depth)
            elif name in self.by_name:
                lists[name] = self.by_name[name].lists(
                    queries, depth, exclude=exclude, passing=self.passing
                )
            else:
                lists[name] = ScoredLists.empty(len(queries), depth)
        return lists

    def candidates(
        self, names: Sequence[str], queries: Queries, k: int = 1
    ) -> dict[str, ScoredLists]:
        """What some sources propose to a ranker: arguments as those of `retrieve`.

        Returns: by name, lists of `Source.depth` places, or of k if that is more.
        """
        lists: dict[str, ScoredLists] = {}
        for name in names:
            depth = max(k, SOURCES[name].depth)
            lists |= self.retrieve([name], queries, depth)
        return lists

    def filled(self, ranked: np.ndarray, k: int, *, exclude: Ragged | None = None) -> np.ndarray:
        """Lists, [U, L] int64, each item once and none excluded, followed by the most popular
        items: [U, k] int64.
        """
        filled = np.full((len(ranked), k), -1, np.int64)
        filled[:, : ranked.shape[1]] = ranked[:, :k]
        short = np.flatnonzero((filled < 0).any(axis=1))
        if len(short):
            row, place = np.nonzero(ranked[short] >= 0)
            own = Ragged(ranked[short][row, place], row, len(short))
            excluded = exclude.take(short) if exclude is not None else None
            filled[short] = past_then(own, self.popular, k, exclude=excluded)
        return filled
