"""The items that can be recommended, with their features as of the start or the end of the day."""

from collections.abc import Mapping
from datetime import date
from typing import TypeAlias, cast

import polars as pl
import pyarrow as pa

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.point_in_time import decayed_counts, item_counts, item_features
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData

FilterValues: TypeAlias = tuple[str | int | float | bool, ...]


def corpus(job: FeatureJob, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The corpus as of a moment.

    Args:
      job: the job.
      moment: counts are as of the start of this day: the job's, the one after, or a replayed one.
      table: the count table.

    Returns:
      One row per item, sorted: what `schema.corpus_schema` lists.

    Raises:
      BadData: there are items, and the filter lets none of them through.
    """
    # At the end of the job's day, the next day's snapshot is not there yet.
    snapshot_day = job.inputs.items_of.get(min(moment, job.plan.day))
    known = item_features.known_at(job, moment, table)
    if job.p.sources.several:
        # Its window may be longer than those of the other counts: it may know items alone.
        trending = decayed_counts.trending(job.p, table, moment)
        known = known.join(trending, on="_item", how="full", coalesce=True)
        for told in (item_counts.first_seen, item_counts.repurchases):
            known = known.join(told(job.p, table, moment), on="_item", how="left")
    recent = known.filter(pl.col("_recent") > 0)
    if snapshot_day is None:
        return _named(job, item_features.with_item_features(job, recent, None, moment))
    listed = item_features.snapshot(job, snapshot_day)
    kept = listed.filter(_passes(listed, job.p.corpus.filter))
    if kept.is_empty() and not listed.is_empty():
        raise BadData(
            "corpus.filter lets the items through that can be recommended; none of the"
            f" {len(listed):,} items of {snapshot_day} passes {job.p.corpus.filter}. Compare it with"
            " the values of these columns."
        )
    shown = [name for name in kept.columns if name.startswith(("_display_", "_attribute_"))]
    rows = item_counts.add(job.p, kept.select("_item", *shown), known)
    if job.p.corpus.unlisted:
        rows = pl.concat([rows, recent.join(listed, on="_item", how="anti")], how="diagonal")
    return _named(job, item_features.with_item_features(job, rows, snapshot_day, moment))


def taken_before(rows: pl.DataFrame, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The rows of items that anybody took before a moment: a catalogue may have many others, of which hardly
    one is ever listed.
    """
    taken = table.filter(pl.col("_day") < day_plan.number(moment)).select("_item")
    return rows.join(taken, on="_item", how="semi", maintain_order="left")


def _named(job: FeatureJob, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, sorted, with the first column shown to people as their name."""
    name = pl.lit(None, pl.String)
    if job.p.corpus.display:
        shown = feature_schema.display_name(job.p.corpus.display[0])
        if shown in rows.columns:
            name = pl.col(shown)
    return rows.with_columns(name.alias("_name")).sort("_item")


def schema_of(job: FeatureJob, rows: pl.DataFrame) -> pa.Schema:
    """The schema of a corpus: attributes have the types of the snapshot."""
    names = {column: feature_schema.attribute_name(column) for column in job.p.corpus.attributes}
    stored = rows.select(name for name in names.values() if name in rows.columns)
    schema = batches.to_batch(stored).schema
    types = {
        column: _plain(schema.field(name).type)
        for column, name in names.items()
        if name in schema.names
    }
    return feature_schema.corpus_schema(job.p, types)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with 32-bit offsets where Polars has 64; text for a column of nulls."""
    # Arrow reads no lists of one fixed length back from Parquet where some of them are null.
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return pa.string()
    return kind


def _passes(rows: pl.DataFrame, wanted: Mapping[str, FilterValues]) -> pl.Expr:
    """Whether each column holds one of its values."""
    holds = [_holds(rows[f"_filter_{column}"], values) for column, values in wanted.items()]
    return pl.all_horizontal(pl.lit(True), *holds)


def _holds(column: pl.Series, values: FilterValues) -> pl.Series:
    """Whether each row is one of the values; of lists, whether one of its elements is."""
    if isinstance(column.dtype, pl.List):
        inner = cast(pl.DataType, column.dtype.inner)
        any_equal = column.list.eval(_equal(pl.element(), inner, values).any())
        return any_equal.list.first().fill_null(False)
    equal = _equal(pl.col(column.name), column.dtype, values)
    return column.to_frame().select(equal.fill_null(False)).to_series()


def _equal(value: pl.Expr, kind: pl.DataType, wanted: FilterValues) -> pl.Expr:
    if kind.is_numeric() or kind == pl.Boolean:
        numbers = [float(w) for w in wanted if not isinstance(w, str)]
        return value.cast(pl.Float64).is_in(numbers)
    # A column of text spells true and false as JSON does.
    texts = [str(w).lower() if isinstance(w, bool) else str(w) for w in wanted]
    return value.cast(pl.String).is_in(texts)


def unlisted(job: FeatureJob, table: pl.DataFrame) -> pl.DataFrame:
    """Items with events on the job's day that the items snapshot lacks: `_item`, `n`."""
    snapshot_day = job.inputs.items_of.get(job.plan.day)
    taken = table.filter(pl.col("_day") == day_plan.number(job.plan.day)).select("_item", "n")
    if snapshot_day is None:
        return taken.clear()
    return taken.join(item_features.snapshot(job, snapshot_day), on="_item", how="anti")
