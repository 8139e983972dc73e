"""What one user has in a day beyond `source.max_user_events`: of a crawler, or of an id that many
share.

The first events in the logs are kept. All events of a user meet in one worker's memory, so most of
what goes has to go
before: each part of a file drops what is beyond the limit in it already, which is never among the
  first of all parts.
"""

from collections import Counter

import polars as pl

from beam_jobs.ingest.records import ORDER

_KEY = ("_user", "_day")
_WATCHED = 100
"""Events of a user in a block, above which a part of a file counts them."""


class UserEventLimit:
    """Drops from the blocks of a part of a file, in their order, what is beyond the limit in that
    part.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[tuple[str, int]] = Counter()

    def take(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The block's rows that may be among the first, of events with `_user` and `_day`."""
        counts = (
            rows.group_by(_KEY).len("found").filter(pl.col("found") > min(_WATCHED, self._most))
        )
        if counts.is_empty():
            return rows
        before = [self._taken[key] for key in counts.select(_KEY).iter_rows()]
        self._taken.update({(user, day): n for user, day, n in counts.iter_rows()})
        known = rows.join(
            counts.with_columns(pl.Series("before", before)),
            on=_KEY,
            how="left",
            maintain_order="left",
        )
        place = pl.int_range(pl.len()).over(_KEY) + pl.col("before")
        return known.filter((place < self._most).fill_null(True)).select(rows.columns)


def within(events: pl.DataFrame, most: int) -> pl.DataFrame:
    """Each user's first `most` events of each day, by their place in the logs; in the frame's
    order.
    """
    if not (events.group_by(_KEY).len()["len"] > most).any():
        return events
    return events.filter(pl.col(ORDER).rank("ordinal").over(_KEY) <= most)
