"""`timings.json` of an attempt: what a stage measured of the clock."""

from collections.abc import Sequence
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile


class Timings(JsonFile):
    """The file. Two runs of the same inputs differ in it, so no digest covers it."""

    FILE: ClassVar[str] = "timings.json"


class TrainTimings(Timings):
    """Of the train stage.

    Attributes:
      training_seconds: from the first batch to the last.
      examples_per_second: rate of training.
    """

    training_seconds: float
    examples_per_second: int


class IndexTimings(Timings):
    """Of the index stage, on the machine that built the index.

    Attributes:
      batch_queries_per_s: searched in batches.
      exact_queries_per_s: compared with all items.
      single_ms_median, single_ms_p99: of queries searched one by one.
      tried_ms: a query of a batch, by each setting that was tried, in the order of index.json.
    """

    batch_queries_per_s: float
    exact_queries_per_s: float
    single_ms_median: float
    single_ms_p99: float
    tried_ms: Sequence[float] = ()
