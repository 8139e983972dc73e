"""The ranker between stages: `ranking_rows/` of a measure attempt, which rankers are fitted on, and
`ranker.json` and `ranker.txt` of a measure attempt and of a version, the fitted ranker.

Rows are candidates of users of the newest days with their features as of the start of each day, and
which of them the user took:

    ranking_rows/dt=D.parquet   zstd, a row per query of D of which a candidate was taken
      taken         list<bool>    of some of its candidates: all that were taken, and others
      weight        list<float>   how many candidates each of these stands for
      feature:NAME  list<float>   a value for each of these; missing values are NaN
      by_history    bool          whether the query has a history alone, as of an unknown user

They hold no ids, of users or of items. The metadata of the schema say the `format`, which defines what
a value means, and the sources of the candidates; files of another format are not read.

`ranker.txt` is LightGBM's own text format. A version carries its ranker also where the gate does not
let it serve (`gate.json`), so that the next day can judge it.
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
"""Of `ranker.json` and `ranker.txt`."""
ROWS = "ranking_rows"
"""Folder of rows that rankers are fitted on."""
ROWS_FORMAT = b"3"
FEATURE_PREFIX = "feature:"
TAKEN = "taken"
WEIGHT = "weight"
BY_HISTORY = "by_history"
MOST_OF_A_DAY = 2_500
"""The most users of one day whose rows are kept."""
# Days since the parent's day after which its rows are too old to be fitted on alone.
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
    """Whether a day makes rows of earlier days: it has no parent, or an old one, or one that has kept no
    rows of this format.
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
    """The part of `ranker.json` that is read first: a reader does without a ranker of another format,
    whatever else the files hold.

    Attributes:
      format: of both files; 1 where the file does not say.
    """

    FILE: ClassVar[str] = "ranker.json"

    format: int = 1


class RankerFile(RankerFormat):
    """`ranker.json`. A version without it has no second stage.

    Attributes:
      sources: whose lists the candidates come from, in order.
      features: names, in the order of the model's columns.
      untimed: whether it was also fitted on queries whose events have no known times: features that
        need times are then missing. For other rankers, such events are taken to be of the present.
    """

    sources: Sequence[str] = ()
    features: Sequence[str] = ()
    untimed: bool = False
    fitted: RankerFit = RankerFit()
