"""An answer: lists of items as rows of a version, reasons for each item, and warnings, for example about
short lists and unknown values.

B queries, K places of a list, S sources, F features of a ranker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field
from typing_extensions import TypedDict  # pydantic needs this TypedDict below Python 3.12

from serving.requests.query_rows import Basis
from serving.version.filters import Groups, Selected
from serving.version.user_store import Unknown
from twinspire_core.config.source_registry import POPULAR, TWO_TOWER
from twinspire_core.display.table import counted
from twinspire_core.ranking.ranker import Ranker, RankingFeatures
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import arrow_lists

_EXPLAINING = 3  # features that explain the place of an item
_FEW_NEW = "fewer items are new to the user than new_share requires: there are no more"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWarnings:
    """Warnings about the rules of lists (serving/answers/recommend.py).

    Attributes:
      caps: the caps that were applied, by attribute.
      lacks_new: [B] bool, lists with fewer new items than `new_share` asks for.
      of_all: warnings about every list.
    """

    caps: Mapping[str, int]
    lacks_new: np.ndarray
    of_all: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWarnings:
    """Warnings about the lists of B queries.

    Attributes:
      version: id of the version.
      k: length of the lists that were asked for.
      items: number of items that a list without a filter can hold.
      counts: [B] int64, items of each list.
      groups: the queries by their filters.
      unknown: for each query, warnings about values that training never saw.
      rules: None where no rule was applied.
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
        """The number of lists with fewer new items than `new_share` requires."""
        return int(self.rules.lacks_new.sum()) if self.rules else 0

    def of(self, query: int) -> tuple[str, ...]:
        """Warnings about one list."""
        selected = self.groups.selected[self.groups.of[query]]
        warnings = (*self.unknown.get(query, ()), *(selected.warnings if selected else ()))
        if self.rules:
            warnings += self.rules.of_all
            if self.rules.lacks_new[query]:
                warnings += (_FEW_NEW,)
        short = self._why_short(query, selected)
        return (*warnings, short) if short else warnings

    def _why_short(self, query: int, selected: Selected | None) -> str | None:
        """Why a list has fewer than `k` items; None if it has them all."""
        # Python's integer, because NumPy's would be written differently in the text below
        count = int(self.counts[query])
        if count == self.k:
            return None
        passing = int(np.count_nonzero(selected.passing)) if selected else self.items
        if self.rules and self.rules.caps and count < min(self.k, passing):
            caps = ", ".join(f"{name} {cap}" for name, cap in self.rules.caps.items())
            return (
                f"{counted(count, 'item')} instead of {self.k}: the rest was seen or excluded, or is"
                f" over a cap ({caps})"
            )
        if self.k > self.items:
            all_listed = "all that pass are listed" if selected else "all are listed"
            return (
                f"{self.k} items were asked for, but the catalogue of {self.version} has only"
                f" {self.items}: {all_listed}"
            )
        if passing < self.k:
            return (
                f"{passing:,} of {self.items:,} items of {self.version} pass the filter;"
                f" {self.k} were asked for"
            )
        return f"{counted(count, 'item')} instead of {self.k}: the rest was seen or excluded"

    def of_values(self) -> tuple[str, ...]:
        """Warnings about unknown values of features, values in filters that no item has, and rules."""
        of_filters = [selected.warnings for selected in self.groups.selected if selected]
        of_rules = self.rules.of_all if self.rules else ()
        # As keys of a dict, to keep the first of equal warnings.
        return tuple(dict.fromkeys(chain(*self.unknown.values(), *of_filters, of_rules)))


class ReasonPart(TypedDict):
    """A feature that moved an item."""

    feature: str
    value: Annotated[float | None, Field(description="Of the item; null: not known.")]
    contribution: Annotated[
        float, Field(description="Its part of the score; below 0 it moved the item down.")
    ]
    text: Annotated[str, Field(description="The meaning of the value in plain words.")]


class Explanations(NamedTuple):
    """Explanations of a ranker's order. Each explanation is made on demand, because one takes longer than
    ranking a hundred items.

    Attributes:
      values: [B, K, F] float32, features of the items.
      is_ranked: [B, K] bool, items that the ranker listed; popular items fill up the rest.
    """

    ranker: Ranker
    features: RankingFeatures
    values: np.ndarray
    is_ranked: np.ndarray

    def of(self, query: int, places: slice = slice(None)) -> list[list[ReasonPart]]:
        """For items at some positions of a list, the features that moved them most, the strongest first.
        Items that fill up the list have none.
        """
        is_ranked = self.is_ranked[query, places]
        values = self.values[query, places][is_ranked]
        reasons: list[list[ReasonPart]] = [[] for _ in is_ranked]
        if not len(values):
            return reasons
        added = self.ranker.contributions(values)
        # Stable, so that equal contributions keep the order of the features.
        strongest = np.argsort(-np.abs(added), axis=1, kind="stable")[:, :_EXPLAINING]
        for row, position in enumerate(np.flatnonzero(is_ranked)):
            reasons[position] = [
                self._reason(int(column), values[row], added[row, column])
                for column in strongest[row]
                if added[row, column] != 0
            ]
        return reasons

    def _reason(self, column: int, values: np.ndarray, added: float) -> ReasonPart:
        name, value = self.ranker.names[column], float(values[column])
        by_name = dict(zip(self.ranker.names, values.tolist(), strict=True))
        return {
            "feature": name,
            "value": None if np.isnan(value) else value,
            "contribution": float(added),
            "text": self.features.describe(name, by_name, self.ranker.sources),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """Lists for B queries.

    Attributes:
      rows: [B, K] int32, rows of the corpus, best first; -1 after the end of a list.
      scores: [B, K] float32, NaN after the end; serving/answers/retrieval.py says what they are.
        Those of `similar` are cosines.
      widened: [B] bool, lists for which the index had to search for more than the first candidates.
      known: [B] bool, whether the version knows the user; None if it stores no users.
      history: [B] lists of item ids, oldest first, on which the lists are based; None without a history
        feature.
      source: the source that makes the lists.
      list_sources: the source of each list: it differs where a user is unknown.
      names: S sources of items.
      shares: [B, K, S] float32, the part of each source in an item's score. In the ranker's lists, how
        near to the top of each source's list the item is. None for a single source.
      reasons: None if no ranker made the lists, or no explanation was asked for.
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
        """Items per list, [B] int64."""
        return (self.rows != NONE).sum(1)

    def main_names(self) -> np.ndarray:
        """The source with the largest part in each item's score, [B, K] objects; anything after the end."""
        names = np.array([*self.names, POPULAR], object)
        if self.shares is None:
            return np.full(self.rows.shape, names[0])
        # Popular items without a score fill up lists that no source can fill.
        main = np.where(self.shares.any(axis=2), self.shares.argmax(axis=2), len(self.names))
        return np.asarray(names[main])

    def main_sources(self) -> pa.ListArray:
        """`main_names` as Arrow lists, [B]."""
        names = pa.array(self.main_names()[self.rows != NONE], pa.string())
        return arrow_lists(self.counts, names)

    def lists(self, ids: pa.Array) -> tuple[pa.ListArray, pa.ListArray]:
        """Item ids and scores as Arrow lists, [B] each.

        Args:
          ids: the ids of the whole corpus, by row.
        """
        there = self.rows != NONE
        items = ids.take(pa.array(self.rows[there]))
        scores = pa.array(self.scores[there])
        return arrow_lists(self.counts, items), arrow_lists(self.counts, scores)
