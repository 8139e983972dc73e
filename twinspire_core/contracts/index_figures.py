"""`index.json` of an index attempt and of a version: how the index came about, what it finds."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from twinspire_core.contracts.json_files import JsonFile, JsonPart

Kind = Literal["exact", "quantised", "tree"]


class SearchSettings(JsonPart):
    """How an index searches, as twinspire_core/search/index.py says.

    Attributes:
      code_dimensions: of each 4-bit code.
    """

    kind: Kind
    k: int
    rescored: int = 0
    leaves: int = 0
    leaves_searched: int = 0
    code_dimensions: Literal[1, 2] = 2

    @property
    def key(self) -> tuple[Kind, int, int, int, int, int]:
        """The settings alone, to compare them whatever else was measured of them."""
        return (
            self.kind,
            self.k,
            self.rescored,
            self.leaves,
            self.leaves_searched,
            self.code_dimensions,
        )


class TriedSettings(SearchSettings):
    """Settings that were measured on the queries to tune by.

    Attributes:
      recall: share of the exact neighbours that they find.
      work: of a query, in scans of one code.
    """

    recall: float
    work: int


class SettingsOrigin(JsonPart):
    """How an index came by its settings.

    Attributes:
      how: `inherited` as they were, or `tuned`.
      version: whose settings they were, or were before they were tuned; None after a search for all
        of them again.
      why: why they were tuned; empty if they were not.
      searched: ISO date of the last search over all kinds.
      items: size of the corpus then.
      kinds: that were compared then; empty where none suited.
      work: of a query then, in scans of one code.
    """

    how: Literal["inherited", "tuned"]
    version: str | None = None
    why: str = ""
    searched: str | None = None
    items: int
    kinds: tuple[Kind, ...]
    work: int


class SampledQueries(JsonPart):
    """The query vectors that an index was tuned and measured on.

    Attributes:
      tuning: how many chose the settings.
      measuring: how many others say what these find.
      source: whose vectors they are.
    """

    tuning: int
    measuring: int
    source: str


class IndexFigures(JsonFile):
    """The file.

    Attributes:
      kind: of the index.
      items: size of the corpus.
      dimension: width of the vectors.
      k: neighbours that recall is of.
      recall: share of the exact neighbours that it finds, on queries that it was not tuned on.
      recall_error: standard error of that.
      recall_target: `index.recall_target` of the pipeline file.
      settings: how it searches.
      reasons: why it is of its kind.
      tuning: how it came by its settings.
      queries: that it was tuned and measured on.
      tried: settings that were measured on the tuning queries, in the order of trying.
    """

    FILE: ClassVar[str] = "index.json"

    kind: Kind
    items: int
    dimension: int
    k: int
    recall: float
    recall_error: float
    recall_target: float
    settings: SearchSettings
    reasons: Sequence[str]
    tuning: SettingsOrigin
    queries: SampledQueries
    tried: Sequence[TriedSettings]
