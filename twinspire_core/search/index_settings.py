"""How an index searches. Without NumPy: every command reads manifests, which hold these settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

Kind = Literal["exact", "quantised", "tree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an index searches.

    Attributes:
      kind: `exact` compares all; `quantised` scans 4-bit codes of all items and rescores the best;
        `tree` scans only the codes of the nearest leaves.
      k: neighbours that the settings were chosen for; a search for more scales them up.
      rescored: items compared exactly after the scan; costs a random read each.
      leaves: partitions of the corpus.
      leaves_searched: partitions scanned per query.
      code_dimensions: dimensions that share a code of 4 bits; 1 scans twice as much, and misses
        less. For one vector of 64 dimensions that is 16 or 32 bytes.
    """

    # A later release may write more.
    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "ignore"}

    kind: Kind
    k: int
    rescored: int = 0
    leaves: int = 0
    leaves_searched: int = 0
    code_dimensions: Literal[1, 2] = 2

    @property
    def key(self) -> tuple[int | str, ...]:
        """The settings alone, to compare them without what was measured of them."""
        return tuple(getattr(self, field.name) for field in fields(Settings))

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is at least 1, got {self.k}")
        if self.kind != "exact" and self.rescored < self.k:
            raise ValueError(f"rescored is at least k = {self.k}, got {self.rescored}")
        if self.kind == "tree" and not 1 <= self.leaves_searched <= self.leaves:
            raise ValueError(
                f"leaves_searched lies in [1, leaves = {self.leaves}], got {self.leaves_searched}"
            )
