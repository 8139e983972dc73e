"""Lists of items as they were found, and warnings: why they are short, and which features and
filters say nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from serving.answers.basis import Basis
from serving.answers.ranking import Explanations
from serving.version.filters import Groups, Selected
from serving.version.known_values import Unknown
from twinspire_core.config.source_names import POPULAR, TWO_TOWER
from twinspire_core.display.table import counted
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import arrow_lists

_FEW_NEW = "fewer items are new to the user than new_share asks for: no more are left"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWarnings:
    """What should be known of the rules of B lists (serving/answers/list_rules.py).

    Attributes:
      caps: those that held, by attribute.
      lacks_new: [B] bool, lists with fewer new items than `new_share` asks for.
      of_all: what is said of all lists.
    """

    caps: Mapping[str, int]
    lacks_new: np.ndarray
    of_all: tuple[str, ...] = ()

    @property
    def caps_text(self) -> str:
        """The caps, to end a sentence with."""
        return ", ".join(f"{name} {cap}" for name, cap in self.caps.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWarnings:
    """What should be known of the lists of B queries.

    Attributes:
      version: its id.
      k: items asked for.
      items: that there are without a filter.
      counts: items of each list, [B] int64.
      groups: the queries' filters.
      unknown: values of the queries' features that the version was trained without.
      rules: what is to be said of the rules of the lists; None where none held.
    """

    version: str
    k: int
    items: int
    counts: np.ndarray
    groups: Groups
    unknown: Unknown = field(default_factory=dict)
    rules: RuleWarnings | None = None

    @property
    def few_new(self) -> int:
        """How many lists have fewer new items than `new_share` asks for."""
        return int(self.rules.lacks_new.sum()) if self.rules else 0

    def of(self, query: int) -> tuple[str, ...]:
        """Warnings about one list."""
        selected = self.groups.selected[self.groups.of[query]]
        of_filter = selected.warnings if selected else ()
        of_values = (*self.unknown.get(query, ()), *of_filter)
        if self.rules:
            of_values += self.rules.of_all
            if self.rules.lacks_new[query]:
                of_values += (_FEW_NEW,)
        short = self._why_short(query, selected)
        return (*of_values, short) if short else of_values

    def _why_short(self, query: int, selected: Selected | None) -> str | None:
        """Why one list has fewer items than were asked for; None where it has all of them."""
        count = int(self.counts[query])
        if count == self.k:
            return None
        passing = int(np.count_nonzero(selected.passing)) if selected else self.items
        if self.rules and self.rules.caps and count < min(self.k, passing):
            return (
                f"{counted(count, 'item')} instead of {self.k}: the rest was seen or excluded, or is"
                f" over a cap ({self.rules.caps_text})"
            )
        if self.k > self.items:
            return self._all_there(filtered=selected is not None)
        if passing < self.k:
            return (
                f"{passing:,} of {self.items:,} items of {self.version} pass the filter, and"
                f" {self.k} were asked for"
            )
        return f"{counted(count, 'item')} instead of {self.k}: the rest was seen or excluded"

    def of_all(self) -> tuple[str, ...]:
        """Warnings about all lists together."""
        of_values = self.of_values()
        if few := self.few_new:
            of_values += (f"{few} of {len(self.counts)} lists: {_FEW_NEW}",)
        capped = self.rules is not None and bool(self.rules.caps)
        filtered = any(self.groups.selected)
        if self.k > self.items and not capped:
            return (*of_values, self._all_there(filtered=filtered))
        short = int((self.counts < self.k).sum())
        if not short:
            return of_values
        does_not_pass = "does not pass, or " if filtered else ""
        over_cap = f", or is over a cap ({self.rules.caps_text})" if self.rules and capped else ""
        rest = f"the rest of the catalogue {does_not_pass}was seen or excluded{over_cap}"
        lists = f"{short} of {len(self.counts)} lists are shorter than {self.k}: {rest}"
        return (*of_values, lists)

    def of_values(self) -> tuple[str, ...]:
        """Warnings about values of features that the version was trained without, values in filters
        that no item has, and rules.
        """
        return tuple(dict.fromkeys(self._each_of_values()))

    def _each_of_values(self) -> Iterator[str]:
        for of_query in self.unknown.values():
            yield from of_query
        for selected in self.groups.selected:
            if selected:
                yield from selected.warnings
        if self.rules:
            yield from self.rules.of_all

    def _all_there(self, *, filtered: bool) -> str:
        all_listed = "all that pass are here" if filtered else "all are here"
        return (
            f"{self.k} items were asked for, and the catalogue of {self.version} has {self.items}"
            f" to offer: {all_listed}"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """Recommendations for B queries.

    Attributes:
      rows: [B, K] int32, rows of the corpus, best first; -1 where there are no more.
      scores: [B, K] float32, NaN where there are no more: of the two-tower, and of `similar`,
        cosines of two vectors; otherwise as serving/answers/retrieval.py says.
      widened: [B] bool, lists for which the first search found too few items that were not seen and
        pass the filter.
      warnings: what should be known of the lists.
      known: [B] bool, whether the user was found among the version's users; None if it carries
        none.
      bases: what each list rests on.
      history: [B] lists of item ids, oldest first, that the answers are based on; None without a
        history feature.
      source: where the items come from.
      list_sources: where those of each list come from: unknown users may get what
        is popular.
      names: S sources that gave items.
      shares: [B, K, S] float32, what each gave to an item's score, of the ranker's lists by places
        in theirs; None where there is but one.
      reasons: why the ranker has the items where they are; None if it is not the ranker's, or they
        were not asked for.
    """

    rows: np.ndarray
    scores: np.ndarray
    widened: np.ndarray
    warnings: AnswerWarnings
    known: np.ndarray | None = None
    bases: Sequence[Basis] = ()
    history: pa.ChunkedArray | None = None
    source: str = TWO_TOWER
    list_sources: Sequence[str] = ()
    names: tuple[str, ...] = (TWO_TOWER,)
    shares: np.ndarray | None = None
    reasons: Explanations | None = None

    @property
    def counts(self) -> np.ndarray:
        """Items per query, [B] int64."""
        lengths: np.ndarray = (self.rows != NONE).sum(1)
        return lengths

    def sources(self, query: int) -> list[list[str]]:
        """The sources of each item of a list, the one that gave most to its score first."""
        count = int(self.counts[query])
        if self.shares is None:
            return [list(self.names)] * count
        return [self._sources_of(shares) for shares in self.shares[query, :count]]

    def _sources_of(self, shares: np.ndarray) -> list[str]:
        largest_first = np.argsort(-shares, kind="stable")
        gave = [self.names[n] for n in largest_first if shares[n] > 0]
        # Lists that no source can fill are filled with popular items, which have no score.
        return gave or [POPULAR]

    def main_sources(self) -> pa.ListArray:
        """The source that gave most to each item's score, as Arrow lists, [B]."""
        there = self.rows != NONE
        if self.shares is None or not there.any():
            main = np.zeros(int(there.sum()), np.int64)
        else:
            shares = self.shares[there]
            # As in `_sources_of`: what nobody gave anything to is there as it is popular.
            main = np.where(shares.any(axis=1), shares.argmax(axis=1), len(self.names))
        names = pa.array([*self.names, POPULAR], pa.string())
        return arrow_lists(self.counts, names.take(pa.array(main)))

    def lists(self, ids: pa.Array) -> tuple[pa.ListArray, pa.ListArray]:
        """Item ids and scores as Arrow lists, [B] each.

        Args:
          ids: the corpus's, by row.
        """
        there = self.rows != NONE
        items = ids.take(pa.array(self.rows[there]))
        scores = pa.array(self.scores[there])
        return arrow_lists(self.counts, items), arrow_lists(self.counts, scores)
