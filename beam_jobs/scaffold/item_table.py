"""The table of items that a log of events holds, where its events name what they are about."""

from collections.abc import Collection
from pathlib import Path

import polars as pl

from beam_jobs.partitioning.log_tables import files_below
from beam_jobs.scaffold.column_names import is_shown
from beam_jobs.scaffold.relations import determines

_WORDS = r"\pL \S"


def columns_of_items(
    events: pl.DataFrame, item: str, used: Collection[str | None] = ()
) -> list[str]:
    """Columns of events that describe the item: one value for each item, but not the same for all items.

    Args:
      events: a sample of the events.
      item: the column of the items.
      used: columns with another use.
    """
    others = [column for column in events.columns if column != item and column not in used]
    plain = [column for column in others if not events[column].dtype.is_nested()]
    return [column for column in plain if determines(events, item, column)]


def is_of_events(items: pl.DataFrame, events: pl.DataFrame) -> bool:
    """Whether a table of items can be made from the events, by all its columns."""
    return {*items.columns} <= {*events.columns}


def names(items: pl.DataFrame, key: str) -> list[str]:
    """Columns to show to people, the likeliest name first: by the columns' names; else the text with most
    different values that have several words.
    """
    by_name = [column for column in items.columns if is_shown(column, items[column])]
    if by_name:
        return by_name
    texts = [c for c in items.columns if c != key and items[c].dtype == pl.String]
    spoken = [c for c in texts if 2 * items[c].str.contains(_WORDS).sum() > items[c].count()]
    return sorted(spoken, key=lambda column: -items[column].n_unique())[:1]


def columns_before(folder: Path) -> list[str]:
    """The columns of the table of items in a folder of days; none if there is no file."""
    files = files_below(folder) if folder.exists() else []
    return list(pl.read_parquet_schema(files[0])) if files else []
