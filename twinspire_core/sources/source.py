"""What a candidate source is. Sources import no TensorFlow: serving asks them too.

U queries, C items of the corpus; items are positions in it, -1 is none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pyarrow as pa

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.sequences import Sequences

Made = TypeVar("Made")
Fit = Callable[[Sequences, pa.Array], pa.Table]
"""Makes a table of what users took up to a moment, and of the ids of the corpus of that moment,
ascending.
"""
HALF_LIFE = "1d"
"""Of the source `popular`, until another one is found to serve better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTables:
    """What sources are made of, all as of one moment.

    Attributes:
      corpus: rows of `corpus/`, or the items of a version: `_item`, and counts.
      others: tables of sources by name (`Source.fits`), as far as they were made.
      half_life: of the source `popular`.
      made: what `once` has made.
    """

    corpus: pa.Table
    others: Mapping[str, pa.Table] = field(default_factory=dict)
    half_life: str = HALF_LIFE
    made: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[["SourceTables"], Made]) -> Made:
        """What several make of these tables, made once.

        Args:
          make: makes it; of the corpus and of `others` alone.
        """
        if make not in self.made:
            self.made[make] = make(self)
        made: Made = self.made[make]
        return made


class Source(ABC):
    """A candidate source, as of a moment.

    Attributes:
      name: what it is called everywhere (twinspire_core/config/source_names.py).
      fits: what it is made of besides the corpus, by name: tables that the feature job fits, of which
        the version carries `NAME.parquet`.
      depth: items of a list that are candidates of the ranker.
      is_costly: whether lists that are needed more than once are kept rather than made anew.
    """

    name: ClassVar[str]
    fits: ClassVar[Mapping[str, Fit]] = {}
    depth: ClassVar[int] = 100
    is_costly: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """The source, or None where what it is made of is not there: it then lists nothing."""

    @abstractmethod
    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """What it lists for each query. A list ends where the source knows no more.

        Args:
          queries: U.
          depth: items of a list at the most.
          exclude: U lists of items that must not be listed.
          passing: [C] bool, what may be listed; None for everything. Items that do not pass may
            still be in a past.

        Returns: lists of `depth` places.
        """
