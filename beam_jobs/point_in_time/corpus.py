"""The items that can be recommended, with their features as of the start or the end of the day."""

from datetime import date
from typing import cast

import polars as pl
import pyarrow as pa

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.point_in_time import item_counts, item_features
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData


def corpus(job: FeatureJob, moment: date, table: pl.DataFrame) -> pl.DataFrame:
    """The corpus of the job's day.

    Args:
      job: the job.
      moment: counts are as of the start of this day: the job's, or the one after.
      table: the count table.

    Returns:
      One row per item, sorted: what `schema.corpus_schema` lists.

    Raises:
      BadData: there are items, and the filter lets none of them through.
    """
    at = job.inputs.items_of.get(job.plan.day)
    known = item_features.known_at(job, moment, table)
    recent = known.filter(pl.col("_recent") > 0)
    if at is None:
        return _named(job, item_features.with_item_features(job, recent, None, moment))
    listed = item_features.snapshot(job, at)
    kept = listed.filter(_passes(listed, job.p.corpus.filter))
    if kept.is_empty() and not listed.is_empty():
        raise BadData(
            "corpus.filter lets the items through that can be recommended; none of the"
            f" {len(listed):,} items of {at} passes {job.p.corpus.filter}. Compare it with the"
            " values of these columns."
        )
    shown = kept.select(
        "_item", *(name for name in kept.columns if name.startswith(("_display_", "_attribute_")))
    )
    rows = item_counts.add(job.p, shown, known)
    if job.p.corpus.unlisted:
        rows = pl.concat([rows, recent.join(listed, on="_item", how="anti")], how="diagonal")
    return _named(job, item_features.with_item_features(job, rows, at, moment))


def _named(job: FeatureJob, rows: pl.DataFrame) -> pl.DataFrame:
    names = [feature_schema.display_name(column) for column in job.p.corpus.display[:1]]
    name = next((pl.col(n) for n in names if n in rows.columns), pl.lit(None, pl.String))
    return rows.with_columns(name.alias("_name")).sort("_item")


def schema_of(job: FeatureJob, rows: pl.DataFrame) -> pa.Schema:
    """The schema of a corpus: attributes have the types of the snapshot."""
    names = {column: feature_schema.attribute_name(column) for column in job.p.corpus.attributes}
    there = rows.select(name for name in names.values() if name in rows.columns)
    found = batches.to_batch(there).schema
    types = {
        column: _plain(found.field(name).type)
        for column, name in names.items()
        if name in found.names
    }
    return feature_schema.corpus_schema(job.p, types)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_null(kind) else kind


def _passes(rows: pl.DataFrame, wanted: dict[str, tuple[str | int | float | bool, ...]]) -> pl.Expr:
    """Whether each column holds one of its values."""
    return pl.all_horizontal(
        pl.lit(True), *(_holds(rows[f"_filter_{c}"], values) for c, values in wanted.items())
    )


def _holds(column: pl.Series, values: tuple[str | int | float | bool, ...]) -> pl.Series:
    if isinstance(column.dtype, pl.List):
        return (
            column.list.eval(
                _equal(pl.element(), cast(pl.DataType, column.dtype.inner), values).any()
            )
            .list.first()
            .fill_null(False)
        )
    return (
        column.to_frame()
        .select(_equal(pl.col(column.name), column.dtype, values).fill_null(False))
        .to_series()
    )


def _equal(
    value: pl.Expr, kind: pl.DataType, wanted: tuple[str | int | float | bool, ...]
) -> pl.Expr:
    if kind.is_numeric() or kind == pl.Boolean:
        numbers = [float(w) for w in wanted if not isinstance(w, str)]
        return value.cast(pl.Float64).is_in(numbers)
    return value.cast(pl.String).is_in(
        [str(w).lower() if isinstance(w, bool) else str(w) for w in wanted]
    )


def unlisted(job: FeatureJob, table: pl.DataFrame) -> pl.DataFrame:
    """Items with events on the job's day that the items snapshot lacks: `_item`, `n`."""
    at = job.inputs.items_of.get(job.plan.day)
    taken = table.filter(pl.col("_day") == day_plan.number(job.plan.day)).select("_item", "n")
    return (
        taken.join(item_features.snapshot(job, at), on="_item", how="anti") if at else taken.clear()
    )
