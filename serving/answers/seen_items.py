"""What users had before, and what is left out of their lists for it."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from serving.answers.filtered_search import Seen
from serving.requests.request_model import EXCLUDE, SEEN
from serving.version.loaded_version import Version
from serving.version.user_store import STORED_PAST
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import list_lengths, list_rows
from twinspire_core.sources import personal_counts

NOTHING_SEEN = Seen(np.zeros(0, np.int64), np.zeros(0, np.int64))


def items_to_leave_out(version: Version, table: pa.Table, exclude_seen: bool) -> Seen:
    """What must not be listed: the ids under `exclude`, and what users had before, where that is
    asked for.

    Args:
      version: what answers.
      table: [B] rows of `serving.requests.query_rows.complete`.
      exclude_seen: whether that is asked for.
    """
    excluded = _listed_in(version, table, [EXCLUDE])
    if not exclude_seen:
        return excluded
    had = items_had(version, table)
    return Seen(*(np.concatenate(pair) for pair in zip(excluded, had, strict=True)))


def items_had(version: Version, table: pa.Table) -> Seen:
    """All that users are known to have had, also before the days of their histories: as
    `twinspire_core.sources.source.Queries.seen` is measured.
    """
    history = version.pipeline.history_name
    return _listed_in(version, table, [SEEN, history, STORED_PAST, personal_counts.ITEMS])


def _listed_in(version: Version, table: pa.Table, columns: Iterable[str | None]) -> Seen:
    """The items that the given columns of item ids hold, as far as they are in the corpus."""
    queries = [np.zeros(0, np.int64)]
    rows = [np.zeros(0, np.int64)]
    for name in columns:
        if name not in table.column_names:
            continue
        lists = table[name].combine_chunks()
        row = version.rows(lists.flatten())
        in_corpus = row != NONE
        queries.append(list_rows(list_lengths(lists))[in_corpus])
        rows.append(row[in_corpus].astype(np.int64))
    return Seen(np.concatenate(queries), np.concatenate(rows))
