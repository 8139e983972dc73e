"""What whoever asks should know of the lists: why they are short, and which filters say nothing."""

from dataclasses import dataclass

import numpy as np

from serving.filters import Groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """Notes on the lists of B queries.

    Attributes:
      version: its id.
      k: items asked for.
      items: that there are without a filter.
      counts: items found, [B] int64.
      groups: the queries' filters.
    """

    version: str
    k: int
    items: int
    counts: np.ndarray
    groups: Groups

    def of(self, query: int) -> tuple[str, ...]:
        """Of one list."""
        selected = self.groups.selected[self.groups.of[query]]
        count, said = int(self.counts[query]), selected.notes if selected else ()
        if count == self.k:
            return said
        if self.k > self.items:
            return (*said, self._all_there(filtered=selected is not None))
        passing = int(np.count_nonzero(selected.passing)) if selected else self.items
        if passing < self.k:
            return (
                *said,
                f"{passing:,} of {self.items:,} items of {self.version} pass the filter, and {self.k} were asked for",
            )
        return (*said, f"{count} items instead of {self.k}: the rest was seen or excluded")

    def all(self) -> tuple[str, ...]:
        """Of all lists together."""
        said = self.of_filters
        if self.k > self.items:
            return (*said, self._all_there(filtered=any(self.groups.selected)))
        short = int((self.counts < self.k).sum())
        if not short:
            return said
        filtered = "does not pass, or " if any(self.groups.selected) else ""
        rest = f"the rest of the catalogue {filtered}was seen or excluded"
        return (*said, f"{short} of {len(self.counts)} lists are shorter than {self.k}: {rest}")

    @property
    def of_filters(self) -> tuple[str, ...]:
        """Values in filters that no item has."""
        return tuple(dict.fromkeys(note for one in self.groups.selected if one for note in one.notes))

    def _all_there(self, *, filtered: bool) -> str:
        asked = f"{self.k} items were asked for, and the catalogue of {self.version} has {self.items} to offer"
        return f"{asked}: all that pass are here" if filtered else f"{asked}: all are here"
