"""What whoever asks should know of the lists: why they are short, and which features and filters
say nothing.
"""

from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from serving.version.filters import Groups
from serving.version.unseen_values import Unknown


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
