"""Makes a table of items from a log whose events name them: a title, a category or a price in each event."""

from datetime import timedelta
from pathlib import Path

import polars as pl

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.day_folders import Spill
from twinspire_core.errors import UsageError, did_you_mean


def first_known(events: Spill, layout: Layout, folder: Path) -> Spill:
    """The items of events, each with what was known of it on the first day that has it: whoever looks at an
    item after that day knew all of it.

    Args:
      events: the rows of each day.
      layout: its `items_of` names the columns, first the item's id; its `time` orders the rows of a day.
      folder: a local folder for temporary files.

    Returns: one row per item, on the day before the first.

    Raises:
      UsageError: the events lack a column.
    """
    items = Spill(folder, max_bytes=1 << 60)  # it takes one table
    key = layout.items_of[0]
    known: pl.DataFrame | None = None
    for day in events.days():
        parts = [_select(pl.DataFrame(table), layout) for table in events.tables(day)]
        rows = pl.concat(parts).drop_nulls(key)
        if known is not None:
            rows = rows.join(known, on=key, how="anti")
        rows = rows.sort(pl.col(str(layout.time)), maintain_order=True).drop(str(layout.time))
        new = rows.group_by(key, maintain_order=True).agg(pl.all().drop_nulls().first())
        known = new if known is None else pl.concat([known, new])
    if known is not None:
        before = pl.Series([events.days()[0] - timedelta(days=1)]).new_from_index(0, len(known))
        items.add(known.to_arrow(), before, pl.repeat(True, len(known), eager=True))
    return items


def _select(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    for column in layout.items_of:
        if column not in rows.columns:
            raise UsageError(
                f"--items-of must name columns of the events; they have no {column!r}:"
                f" {', '.join(rows.columns)}{did_you_mean(column, rows.columns, '; ') or '.'}"
            )
    return rows.select(*layout.items_of, str(layout.time))
