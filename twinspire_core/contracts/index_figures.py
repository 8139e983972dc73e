"""How an index was made, what it finds and how fast it is.

`index.json` lies in an index attempt and in a version, `timings.json` in the attempt.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from twinspire_core.contracts.json_files import JsonFile, JsonPart, Timings

Kind = Literal["exact", "quantised", "tree"]


class SearchSettings(JsonPart):
    """How an index searches; twinspire_core/search/index.py explains the settings."""

    kind: Kind
    k: int
    rescored: int = 0
    leaves: int = 0
    leaves_searched: int = 0
    code_dimensions: Literal[1, 2] = 2

    @property
    def key(self) -> tuple[Kind, int, int, int, int, int]:
        """The settings alone, to compare them without what was measured of them."""
        scan = (self.rescored, self.leaves, self.leaves_searched)
        return (self.kind, self.k, *scan, self.code_dimensions)


class TriedSettings(SearchSettings):
    """Settings that were measured on the tuning queries.

    Attributes:
      recall: share of the exact neighbours that they find.
      work: cost of a query, in scans of one code.
    """

    recall: float
    work: int


class SettingsOrigin(JsonPart):
    """How an index came by its settings.

    Attributes:
      how: `inherited` as they were, or `tuned`.
      version: the version whose settings were taken over or tuned; None after a new search.
      why: why they were tuned; empty if they were not.
      searched: ISO date of the last search over all kinds.
      items: size of the corpus at that search.
      kinds: that were compared by it; empty where none suited.
      work: cost of a query then, in scans of one code.
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
      tuning: number of queries that the settings were chosen by.
      measuring: number of other queries, which the index was measured on.
      source: where the vectors are from, in words.
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
      k: neighbours that recall is measured for.
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


class IndexTimings(Timings):
    """`timings.json` of the index stage, on the machine that built the index.

    Attributes:
      batch_queries_per_s: queries searched in batches.
      exact_queries_per_s: queries compared with all items, in batches.
      single_ms_median, single_ms_p99: of queries searched one by one.
      tried_ms: time of a query in a batch, for each of `IndexFigures.tried`.
    """

    batch_queries_per_s: float
    exact_queries_per_s: float
    single_ms_median: float
    single_ms_p99: float
    tried_ms: Sequence[float] = ()
