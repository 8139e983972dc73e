"""Which values of an id or a category get rows of their own in the towers: they are counted, added up
and ranked.
"""

import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config.feature_kinds import IdFeature, VocabularyFeature
from twinspire_core.config.pipeline import Pipeline

COMPACT_ROWS = 1 << 20
"""Rows of partial counts that are kept side by side before they are added up."""
MOST_IDS = 1_000_000
"""Ids with rows of their own: a table of so many rows of 64 numbers is 256 MB, and as much again is what
Adagrad remembers. `vocabulary.min_events` is the way to fewer.
"""
MOST_VALUES = 10_000
"""The same of a category's values: what is rarer than these is met too seldom to be learned."""
COUNTS = pa.schema([("value", pa.string()), ("events", pa.int64())])
"""A value and its events."""


def features(p: Pipeline) -> dict[str, VocabularyFeature]:
    """Features that keep a vocabulary, which is named like the feature."""
    return {name: f for name, f in p.features.items() if isinstance(f, VocabularyFeature)}


def counts(column: pa.ChunkedArray) -> pa.Table:
    """Events of each value; lists count each of their values."""
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    rows = pa.table({"value": column.cast(pa.string())})
    counted = rows.group_by("value", use_threads=False).aggregate([("value", "count")])
    return _in_one_piece(counted.rename_columns(COUNTS.names).cast(COUNTS))


def compacted(tables: list[pa.Table]) -> list[pa.Table]:
    """The same counts, added up once there are many."""
    if len(tables) < 2:
        return tables
    # What was added up before stands first: waiting until as many rows have come again keeps the
    # work linear.
    added_before = len(tables[0])
    come_since = sum(map(len, tables[1:]))
    if come_since > max(COMPACT_ROWS, added_before):
        return [added_up(tables)]
    return tables


def added_up(tables: list[pa.Table]) -> pa.Table:
    """One row per value."""
    rows = pa.concat_tables([COUNTS.empty_table(), *tables])
    by_value = rows.group_by("value", use_threads=False)
    total = by_value.aggregate([("events", "sum")])
    return _in_one_piece(total.rename_columns(COUNTS.names))


def _in_one_piece(grouped: pa.Table) -> pa.Table:
    # Grouping returns slices of 32,768 rows, each of which travels with the buffers of all: with a
    # million values that is more than Beam can send.
    return grouped.combine_chunks()


def ranked(p: Pipeline, name: str, counts: pa.Table) -> pa.Table:
    """The counts of values that get rows of their own, most frequent first, ties in reverse byte
    order as TFT has it. Of some of the values, those that may get any.
    """
    feature = features(p)[name]
    # "" is a missing value, and a line of the vocabulary's file holds one value.
    is_line = pc.invert(pc.match_substring_regex(counts["value"], r"[\r\n]"))
    kept = pc.and_(pc.not_equal(counts["value"], ""), is_line)
    # Rare ids share the rows of unknown values.
    if isinstance(feature, IdFeature):
        kept = pc.and_(kept, pc.greater_equal(counts["events"], p.vocabulary.min_events))
        size = MOST_IDS
    else:
        size = MOST_VALUES
    rows = counts.filter(kept)
    order = pc.sort_indices(rows, [("events", "descending"), ("value", "descending")])
    return rows.take(order[:size])
