"""Lists of items as they were found, and warnings: why they are short, and which features and
filters say nothing.
"""

from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa

from serving.version.filters import Groups
from serving.version.known_values import Unknown
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import arrow_lists
from twinspire_core.sources.candidate_sources import MOST_POPULAR, TWO_TOWER


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWarnings:
    """Notes on the lists of B queries.

    Attributes:
      version: its id.
      k: items asked for.
      items: that there are without a filter.
      counts: items found, [B] int64.
      groups: the queries' filters.
      unknown: of the queries' features.
    """

    version: str
    k: int
    items: int
    counts: np.ndarray
    groups: Groups
    unknown: Unknown = field(default_factory=dict)

    def of(self, query: int) -> tuple[str, ...]:
        """Of one list."""
        selected = self.groups.selected[self.groups.of[query]]
        count, said = (
            int(self.counts[query]),
            (*self.unknown.get(query, ()), *(selected.notes if selected else ())),
        )
        if count == self.k:
            return said
        if self.k > self.items:
            return (*said, self._all_there(filtered=selected is not None))
        passing = int(np.count_nonzero(selected.passing)) if selected else self.items
        if passing < self.k:
            return (
                *said,
                (
                    f"{passing:,} of {self.items:,} items of {self.version} pass the filter, and"
                    f" {self.k} were asked for"
                ),
            )
        return (*said, f"{count} items instead of {self.k}: the rest was seen or excluded")

    def all(self) -> tuple[str, ...]:
        """Of all lists together."""
        said = self.of_values
        if self.k > self.items:
            return (*said, self._all_there(filtered=any(self.groups.selected)))
        short = int((self.counts < self.k).sum())
        if not short:
            return said
        filtered = "does not pass, or " if any(self.groups.selected) else ""
        rest = f"the rest of the catalogue {filtered}was seen or excluded"
        return (*said, f"{short} of {len(self.counts)} lists are shorter than {self.k}: {rest}")

    @property
    def of_values(self) -> tuple[str, ...]:
        """Values of features that the version was trained without, and values in filters that no
        item has.
        """
        of_filters = (one.notes for one in self.groups.selected if one)
        return tuple(dict.fromkeys(chain(*self.unknown.values(), *of_filters)))

    def _all_there(self, *, filtered: bool) -> str:
        asked = (
            f"{self.k} items were asked for, and the catalogue of {self.version} has {self.items}"
            " to offer"
        )
        return f"{asked}: all that pass are here" if filtered else f"{asked}: all are here"


@dataclass(frozen=True, slots=True)
class Answer:
    """Recommendations for B queries.

    Attributes:
      rows: [B, K] int32, rows of the catalogue, best first; -1 where there are no more.
      scores: [B, K] float32, NaN where there are no more: of the two-tower, and of `similar`,
        cosines of two vectors; otherwise as serving/answers/retrieval.py says.
      known: [B] bool, whether the user was found among the version's users; None if it carries
        none.
      history: [B] lists of item ids, oldest first, that the answers are based on; None without a
        history feature.
      widened: [B] bool, lists for which the first search found too few items that were not seen and
        pass the filter.
      told: what the asker should know.
      source: where the items come from.
      names: S sources that gave items.
      shares: [B, K, S] float32, what each gave to an item's score; None where there is but one.
    """

    rows: np.ndarray
    scores: np.ndarray
    widened: np.ndarray
    told: AnswerWarnings
    known: np.ndarray | None = None
    history: pa.ChunkedArray | None = None
    source: str = TWO_TOWER
    names: tuple[str, ...] = (TWO_TOWER,)
    shares: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        """Items per query, [B] int64."""
        lengths: np.ndarray = (self.rows != NONE).sum(1)
        return lengths

    @property
    def notes(self) -> tuple[str, ...]:
        """What the asker of all queries should know."""
        return self.told.all()

    def notes_of(self, query: int) -> tuple[str, ...]:
        """What the asker of one query should know."""
        return self.told.of(query)

    def sources(self, query: int) -> list[list[str]]:
        """The sources of each item of a list, the one that gave most to its score first."""
        if self.shares is None:
            return [list(self.names)] * int(self.counts[query])
        given = self.shares[query, : self.counts[query]]
        return [
            [self.names[n] for n in np.argsort(-one, kind="stable") if one[n] > 0] or [MOST_POPULAR]
            for one in given
        ]

    def main_sources(self) -> pa.ListArray:
        """The source that gave most to each item's score, as Arrow lists, [B]."""
        there = self.rows != NONE
        shares = self.shares if self.shares is not None else np.ones((*self.rows.shape, 1))
        first = pa.array(shares[there].argmax(axis=1) if there.any() else np.zeros(0, np.int64))
        return arrow_lists(self.counts, pa.array(self.names, pa.string()).take(first))

    def lists(self, ids: pa.Array) -> tuple[pa.ListArray, pa.ListArray]:
        """Item ids and scores as Arrow lists, [B] each.

        Args:
          ids: the catalogue's, by row.
        """
        there = self.rows != NONE
        items = ids.take(pa.array(self.rows[there]))
        scores = pa.array(self.scores[there])
        return arrow_lists(self.counts, items), arrow_lists(self.counts, scores)
