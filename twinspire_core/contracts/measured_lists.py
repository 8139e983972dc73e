"""`lists/` of a measure attempt: what was listed for users of the newest days by versions that had not
seen these days, and what the users took.

    lists/dt=D.parquet     zstd, a row per query of D, in no order that means anything
      past_events  int64         events of the user before D: tells slices apart
      held_out     bool          held out of D's training: judges, and is never fitted on
      taken        list<int32>   the items taken, -1 for one outside the corpus
      list:NAME    list<int32>   the list of a candidate source, best first
      score:NAME   list<float>   its scores, which compare the items of one list

Items are numbers that mean something within a row only: positions in the corpus of D's start. There
are no ids, of users or of items: who may ask to be forgotten is not to be found here. Readers leave
alone columns that they do not know, so that features may be added. What a list means is
said by `format`, in the metadata of the schema; files of another format are not read.
"""

import pyarrow as pa

from twinspire_core.metrics.measure_names import EXCLUDED

FOLDER = "lists"
FORMAT = b"1"
LIST_PREFIX = "list:"
SCORE_PREFIX = "score:"

PAST_EVENTS = "past_events"
HELD_OUT = "held_out"
TAKEN = "taken"

_FORMAT_KEY = b"twinspire.lists.format"
_TWO_TOWER_KEY = b"twinspire.lists.two_tower"
_SEEN_KEY = b"twinspire.lists.seen"
"""Not there where the lists may hold what the users had before."""


def metadata(two_tower: str, *, exclude_seen: bool = False) -> dict[bytes, bytes]:
    """What the schema of a file says besides its columns.

    Args:
      two_tower: the version whose two-tower listed.
      exclude_seen: whether the lists are without what the users had before.
    """
    said = {_FORMAT_KEY: FORMAT, _TWO_TOWER_KEY: two_tower.encode()}
    if exclude_seen:
        said[_SEEN_KEY] = EXCLUDED.encode()
    return said


def exclude_seen(schema: pa.Schema) -> bool:
    """Whether the lists are without what the users had before."""
    found: dict[bytes, bytes] = schema.metadata or {}
    return found.get(_SEEN_KEY) == EXCLUDED.encode()


def two_tower_of(schema: pa.Schema) -> str | None:
    """The version whose two-tower listed; None for a file of another format."""
    found: dict[bytes, bytes] = schema.metadata or {}
    if found.get(_FORMAT_KEY) != FORMAT:
        return None
    return found.get(_TWO_TOWER_KEY, b"").decode()
