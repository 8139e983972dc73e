"""Files of the ranker: `ranking_rows/` of a measure attempt, on which rankers are fitted; `ranker.json` and
`ranker.txt` of a measure attempt and of a version, the fitted ranker.

Rows are candidates of users of the newest days with their features as of the start of each day, and
which of them the user took:

    ranking_rows/dt=D.parquet   zstd, a row per query of D of which a candidate was taken
      taken         list<bool>    of some of its candidates: all that were taken, and others
      weight        list<float>   how many candidates each of these stands for
      feature:NAME  list<float>   a value for each of these; missing values are NaN
      by_history    bool          whether the query has a history alone, as of an unknown user

They contain no ids of users or items. The metadata of the schema have the `format`, which defines the meaning
of the values, and the sources of the candidates. Files of another format are not read.

`ranker.txt` is LightGBM's own text format. A version contains its ranker even if the gate does not let it
serve (`gate.json`), so that the next day can judge it.
"""

import json
from collections.abc import Sequence
from datetime import date
from typing import ClassVar

import pyarrow as pa

from twinspire_core import storage
from twinspire_core.contracts.attempts import Parent
from twinspire_core.contracts.day_metrics import RankerFit
from twinspire_core.contracts.json_files import JsonFile
from twinspire_core.storage import parquet_files

MODEL = "ranker.txt"
FORMAT = 1
"""Format of `ranker.json` and `ranker.txt`."""
ROWS = "ranking_rows"
"""Folder of the rows on which rankers are fitted."""
ROWS_FORMAT = b"3"
FEATURE_PREFIX = "feature:"
TAKEN = "taken"
WEIGHT = "weight"
BY_HISTORY = "by_history"
MOST_OF_A_DAY = 2_500
"""The most users of one day whose rows are kept."""
# Rows of a parent that is more than this many days old are not enough for fitting.
_LONGEST_GAP = 7

_FORMAT_KEY = b"twinspire.ranking_rows.format"
_SOURCES_KEY = b"twinspire.ranking_rows.sources"


def metadata(sources: tuple[str, ...]) -> dict[bytes, bytes]:
    """Metadata of the schema of a file of rows, whose candidates come from these sources, in order."""
    return {_FORMAT_KEY: ROWS_FORMAT, _SOURCES_KEY: json.dumps(sources).encode()}


def is_known(schema: pa.Schema) -> bool:
    """Whether a file of rows is of this release's format."""
    # Arrow gives None for a file without metadata.
    return bool((schema.metadata or {}).get(_FORMAT_KEY) == ROWS_FORMAT)


def sources_of(schema: pa.Schema) -> tuple[str, ...]:
    """The sources that the candidates come from."""
    return tuple(json.loads(schema.metadata[_SOURCES_KEY]))


def needs_replay(day: date, parent: Parent | None) -> bool:
    """Whether a day must replay earlier days: it has no parent, an old parent, or a parent without rows of
    this format.
    """
    if parent is None or (day - parent.day).days > _LONGEST_GAP:
        return True
    # The newest file is enough, because a version writes all of its files in one format.
    files = parquet_files.list_parquet(storage.join(parent.measure, ROWS))
    if not files:
        return True
    with parquet_files.open_parquet(files[-1]) as newest:
        return not is_known(newest.schema_arrow)


class RankerFormat(JsonFile):
    """The part of `ranker.json` that is read first: a ranker of another format is ignored.

    Attributes:
      format: of both files; 1 where the file does not say.
    """

    FILE: ClassVar[str] = "ranker.json"

    format: int = 1


class RankerFile(RankerFormat):
    """`ranker.json`. A version without it has no second stage.

    Attributes:
      sources: the sources of the candidates, in order.
      features: names, in the order of the model's columns.
      untimed: whether it was also fitted on queries whose events have no times, so that features of times are
        missing. For other rankers, such events count as events of this moment.
    """

    sources: Sequence[str] = ()
    features: Sequence[str] = ()
    untimed: bool = False
    fitted: RankerFit = RankerFit()
