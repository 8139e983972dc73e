"""`ranking_rows/` of a measure attempt: candidates of users of the newest days with their features as
of the start of each day, and which of them the user took: what rankers are fitted on.

    ranking_rows/dt=D.parquet   zstd, a row per query of D of which a candidate was taken
      taken         list<bool>    of some of its candidates: all that were taken, and others
      weight        list<float>   how many candidates each of these stands for
      feature:NAME  list<float>   a value for each of these; missing values are NaN
      by_history    bool          whether the user was asked for by a history alone

There are no ids, of users or of items. What a value means is said by `format`, in the metadata of
the schema, as are the sources of the candidates; files of another format are not read.
"""

import json
from datetime import date

import pyarrow as pa

from twinspire_core import storage
from twinspire_core.contracts.attempts import Parent
from twinspire_core.storage import parquet_files

FOLDER = "ranking_rows"
FORMAT = b"3"
FEATURE_PREFIX = "feature:"
TAKEN = "taken"
WEIGHT = "weight"
BY_HISTORY = "by_history"
MOST_OF_A_DAY = 2_500
"""Users of one day that are kept at the most."""
_LONGEST_GAP = 7
"""Days without a version before a day after which the parent's rows are too old to be fitted on alone."""

_FORMAT_KEY = b"twinspire.ranking_rows.format"
_SOURCES_KEY = b"twinspire.ranking_rows.sources"


def metadata(sources: tuple[str, ...]) -> dict[bytes, bytes]:
    """What the schema of a file says besides its columns.

    Args:
      sources: that the candidates come from, in order.
    """
    return {_FORMAT_KEY: FORMAT, _SOURCES_KEY: json.dumps(sources).encode()}


def is_known(schema: pa.Schema) -> bool:
    """Whether the file is of this format."""
    return bool((schema.metadata or {}).get(_FORMAT_KEY) == FORMAT)


def sources_of(schema: pa.Schema) -> tuple[str, ...]:
    """The sources that the candidates come from."""
    return tuple(json.loads(schema.metadata[_SOURCES_KEY]))


def needs_replay(day: date, parent: Parent | None) -> bool:
    """Whether a day makes rows of days before it: it has no parent, or one of long ago, or that has kept no
    rows of this format.

    Args:
      day: the day.
      parent: that it goes on from.
    """
    if parent is None or (day - parent.day).days > _LONGEST_GAP:
        return True
    files = parquet_files.list_parquet(storage.join(parent.measure, FOLDER))
    if not files:
        return True
    with parquet_files.open_parquet(files[-1]) as newest:
        return not is_known(newest.schema_arrow)
