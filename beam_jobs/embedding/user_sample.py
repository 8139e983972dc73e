"""The users who are embedded: a sample of those seen lately, the same however the rows are
split.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs import user_hashing
from beam_jobs.day_plan import start_of
from beam_jobs.embedding.tower_calls import Batch, batches_of, compact

ACTIVE_DAYS = 7  # days, the day itself included, in which a sampled user was last seen


class SampleUsers(beam.PTransform):
    """Batches of users -> batches of the sample of those last seen at or after an instant, sorted
    by id.
    """

    def __init__(self, since: int, most: int, rows: int) -> None:
        super().__init__()
        self._since = since
        self._most = most
        self._rows = rows

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Wires the steps."""
        return (
            batches
            | "Active" >> beam.Map(active, self._since)
            | "Draw" >> beam.CombineGlobally(Sample("_user", self._most))
            | "Cut" >> beam.FlatMap(cut, self._rows).with_output_types(Batch)
        )


class Sample(beam.CombineFn):
    """Draws the rows whose ids have the smallest hashes: the same ones however the rows were split.
    Sorted by id.
    """

    def __init__(self, key: str, most: int) -> None:
        super().__init__()
        self._key = key
        self._most = most

    def create_accumulator(self) -> list[pa.RecordBatch]:
        """Nothing drawn yet."""
        return []

    def add_input(self, drawn: list[pa.RecordBatch], rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Takes a batch."""
        return self._smallest([*drawn, rows])

    def merge_accumulators(self, several: Iterable[list[pa.RecordBatch]]) -> list[pa.RecordBatch]:
        """Takes what others drew."""
        return self._smallest([batch for drawn in several for batch in drawn])

    def extract_output(self, drawn: list[pa.RecordBatch]) -> pa.RecordBatch | None:
        """The sample, or None if there were no rows."""
        if not drawn:
            return None
        rows = _joined(drawn)
        return compact(rows.sort_by(self._key))

    def _smallest(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        batches = [batch for batch in batches if batch.num_rows]
        if sum(batch.num_rows for batch in batches) <= self._most:
            return batches
        rows = _joined(batches)
        hashes = user_hashing.sampling_hashes(pl.Series(rows[self._key]), "sample")
        # The smallest hashes of parts hold those of the whole: samples of samples are the same.
        kept = np.sort(np.argpartition(hashes, self._most)[: self._most])
        return [compact(rows.take(kept))]


def active(batch: Batch, since: int) -> pa.RecordBatch:
    """The batch's users whose last event lies at or after `since`, microseconds since 1970."""
    last_time = batch.rows.column("_last_time").cast(pa.int64())
    return batch.rows.filter(pc.greater_equal(last_time, since))


def cut(rows: pa.RecordBatch | None, size: int) -> Iterator[Batch]:
    """Cuts the sample into batches."""
    if rows is not None:
        yield from batches_of(pa.Table.from_batches([rows]), 0, size)


def active_since(day: date, zone: ZoneInfo) -> int:
    """When the days begin that make a user active, in microseconds since 1970."""
    return start_of(day - timedelta(days=ACTIVE_DAYS - 1), zone)


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    return pa.concat_tables(tables, promote_options="permissive")
