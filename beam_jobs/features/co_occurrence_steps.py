"""Item-to-item co-occurrence as steps of the job: baskets by part of the items -> its pairs ->
neighbours.

A basket goes to every part that it has an item of, and is paired there: baskets are far fewer rows
than their pairs.

At two moments, as the corpora: at the start of the day, to measure by, and at its end, to be
published.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsDict, AsSideInput, PCollection, TaggedOutput

from beam_jobs.beam import batches
from beam_jobs.beam.batches import restore
from beam_jobs.point_in_time import co_occurrence
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.contracts import feature_schema

_BASKETS, _TAKERS = "baskets", "takers"
Place = tuple[str, int]
"""Folder of the output, and a part of the items."""


@dataclass
class CoOccurrence(beam.PTransform):
    """(folder, `together.TAKEN` of a shard) -> the files; returns numbers.

    Attributes:
      job: the job.
      table: the count table.
      members: (folder of a corpus, its `_item`).
    """

    job: FeatureJob
    table: AsSideInput
    members: AsDict

    def expand(self, baskets: PCollection) -> PCollection:
        """Connects the steps."""
        job, kinds = (
            self.job,
            {_BASKETS: tuple[Place, pa.RecordBatch], _TAKERS: tuple[str, pa.RecordBatch]},
        )
        step = beam.ParDo(Spread(job), self.table).with_output_types(tuple, **kinds)
        spread = baskets | "Spread" >> step.with_outputs(*kinds)
        summed = beam.MapTuple(lambda folder, parts: (folder, merged(parts)))
        takers = (
            spread[_TAKERS]
            | "By moment" >> beam.GroupByKey()
            | "Sum takers" >> summed.with_output_types(tuple[str, pa.RecordBatch])
        )
        nothing = [((folder, 0), co_occurrence.NO_BASKETS) for folder in co_occurrence.moments(job)]
        empty = baskets.pipeline | beam.Create(nothing, reshuffle=False).with_output_types(
            tuple[Place, pa.RecordBatch]
        )
        near = beam.ParDo(Nearest(job), self.table, AsDict(takers), self.members).with_output_types(
            tuple[str, int]
        )
        parts = (spread[_BASKETS], empty) | beam.Flatten() | "By part" >> beam.GroupByKey()
        return parts | "Nearest" >> near


class Spread(beam.DoFn):
    """(folder, baskets) -> `_BASKETS` by part of the items; `_TAKERS`, users of each item."""

    def __init__(self, job: FeatureJob) -> None:
        self._parts = job.p.beam.shards

    def process(self, element: tuple[str, pa.RecordBatch], table: pa.RecordBatch) -> Iterator[Any]:
        """Sends baskets to where they are paired."""
        folder, taken = element[0], restore(element[1])
        items, user = _items(table), taken.column("_code").to_numpy()
        item = (
            items.search_sorted(pl.Series(pl.from_arrow(taken.column("_item"))))
            .to_numpy()
            .astype(np.int64)
        )
        number, n = np.unique(item, return_counts=True)
        yield TaggedOutput(
            _TAKERS, (folder, pa.RecordBatch.from_arrays([number, n], schema=co_occurrence.TAKERS))
        )
        for part in range(self._parts):
            kept = co_occurrence.of_part(user, item, _part(part, self._parts, len(items)))
            if kept.any():
                columns = [user[kept].astype(np.int32), item[kept].astype(np.int32)]
                yield TaggedOutput(
                    _BASKETS,
                    (
                        (folder, part),
                        pa.RecordBatch.from_arrays(columns, schema=co_occurrence.BASKETS),
                    ),
                )


class Nearest(beam.DoFn):
    """((folder, part), baskets) -> the file; yields how many items have neighbours."""

    def __init__(self, job: FeatureJob) -> None:
        self._job = job

    def start_bundle(self) -> None:
        """Forgets what the side inputs of another bundle were."""
        self._known: dict[str, tuple[pl.Series, np.ndarray, np.ndarray]] = {}

    def process(
        self,
        element: tuple[Place, Iterable[pa.RecordBatch]],
        table: pa.RecordBatch,
        takers: Mapping[str, pa.RecordBatch],
        members: Mapping[str, pa.RecordBatch],
    ) -> Iterator[tuple[str, int]]:
        """Writes a file."""
        (folder, number), baskets = element
        if folder not in self._known:
            corpus = members[co_occurrence.moments(self._job)[folder][0]]
            self._known[folder] = _numbered(table, takers.get(folder), corpus)
        items, users, row = self._known[folder]
        part = _part(number, self._job.p.beam.shards, len(items))
        found = [
            (batch.column("user").to_numpy(), batch.column("item").to_numpy()) for batch in baskets
        ]
        pairs = co_occurrence.added(
            [co_occurrence.pairs(user, item, part, len(items)) for user, item in found]
        )
        near = co_occurrence.nearest(pairs, users, row, self._job.p.mix.neighbours)
        rows = near.with_columns(_item=items.gather(near["item"]))
        name = storage.join(self._job.out, folder, f"{number:05d}.parquet")
        storage.write_bytes(
            name, batches.parquet([batches.to_batch(rows, feature_schema.co_occurrence_schema())])
        )
        yield f"{folder}|items|{self._job.plan.day}|", len(rows)


def _numbered(
    table: pa.RecordBatch, takers: pa.RecordBatch | None, corpus: pa.RecordBatch
) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """The items, [N]; users of each, [N] int64; the row of each in the corpus, [N] int64, -1 where
    it has none.
    """
    items = _items(table)
    users = np.zeros(len(items), np.int64)
    if takers is not None:
        users[takers.column("item").to_numpy()] = takers.column("n").to_numpy()
    row = pc.index_in(items.to_arrow().cast(pa.string()), corpus.column("_item").cast(pa.string()))
    return items, users, row.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _part(number: int, parts: int, items: int) -> range:
    """Items of a part."""
    return range(-(-number * items // parts), -(-(number + 1) * items // parts))


def merged(parts: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The sum of users by item."""
    return batches.to_batch(
        batches.to_frame(parts).group_by("item").agg(pl.col("n").sum()), co_occurrence.TAKERS
    )


def _items(table: pa.RecordBatch) -> pl.Series:
    """The distinct items of the count table, which is sorted by item."""
    items = pl.Series(pl.from_arrow(table.column("_item")), dtype=pl.String)
    return items.filter(items.ne_missing(items.shift()))
