"""Item-to-item co-occurrence as steps of the job: baskets of users -> pairs by part of the items -> neighbours.

At two moments, as the corpora: at the start of the day, to measure by, and at its end, to be published.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsDict, AsSideInput, PCollection, TaggedOutput

from beam_jobs import batches, schema
from beam_jobs.point_in_time import together
from beam_jobs.point_in_time.job import Job
from twinspire import storage

_PAIRS, _TAKERS = "pairs", "takers"
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

    job: Job
    table: AsSideInput
    members: AsDict

    def expand(self, baskets: PCollection) -> PCollection:
        """Connects the steps."""
        job, kinds = self.job, {_PAIRS: tuple[Place, pa.RecordBatch], _TAKERS: tuple[str, pa.RecordBatch]}
        step = beam.ParDo(Pair(job), self.table).with_output_types(tuple, **kinds)
        paired = baskets | "Pair" >> step.with_outputs(*kinds)
        summed = beam.MapTuple(lambda folder, parts: (folder, merged(parts)))
        takers = (
            paired[_TAKERS]
            | "By moment" >> beam.GroupByKey()
            | "Sum takers" >> summed.with_output_types(tuple[str, pa.RecordBatch])
        )
        nothing = [((folder, 0), together.NO_PAIRS) for folder in together.moments(job)]
        empty = baskets.pipeline | beam.Create(nothing).with_output_types(tuple[Place, pa.RecordBatch])
        near = beam.ParDo(Nearest(job), self.table, AsDict(takers), self.members).with_output_types(tuple[str, int])
        parts = (paired[_PAIRS], empty) | beam.Flatten() | "By part" >> beam.GroupByKey()
        return parts | "Nearest" >> near


class Pair(beam.DoFn):
    """(folder, baskets) -> `_PAIRS`, counted pairs by part of the items; `_TAKERS`, users of each item."""

    def __init__(self, job: Job) -> None:
        self._parts = job.p.beam.shards

    def process(self, element: tuple[str, pa.RecordBatch], table: pa.RecordBatch) -> Iterator:
        """Pairs a shard's baskets."""
        folder, taken = element
        items = _items(table)
        item = items.search_sorted(pl.Series(pl.from_arrow(taken.column("_item")))).to_numpy().astype(np.int64)
        number, n = np.unique(item, return_counts=True)
        yield TaggedOutput(_TAKERS, (folder, pa.RecordBatch.from_arrays([number, n], schema=together.TAKERS)))
        for counted in together.pairs(taken.column("_code").to_numpy(), item):
            part = counted["item"] * self._parts // len(items)
            for number, rows in batches.slices(part, counted):
                yield TaggedOutput(_PAIRS, ((folder, number), batches.to_batch(rows, together.PAIRS)))


class Nearest(beam.DoFn):
    """((folder, part), counted pairs) -> the file; yields how many items have neighbours."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self,
        element: tuple[Place, Iterable[pa.RecordBatch]],
        table: pa.RecordBatch,
        takers: Mapping[str, pa.RecordBatch],
        members: Mapping[str, pa.RecordBatch],
    ) -> Iterator[tuple[str, int]]:
        """Writes a file."""
        (folder, part), counted = element
        items = _items(table)
        corpus = members[together.moments(self._job)[folder][0]].column("_item").cast(pa.string())
        row = pc.index_in(items.to_arrow().cast(pa.string()), corpus).fill_null(-1).to_numpy(False).astype(np.int64)
        users = np.zeros(len(items), np.int64)
        if folder in takers:
            users[takers[folder].column("item").to_numpy()] = takers[folder].column("n").to_numpy()
        pairs = batches.to_frame(counted).group_by("item", "other").agg(pl.col("n").sum())
        near = together.nearest(pairs, users, row, self._job.p.mix.neighbours)
        rows = near.with_columns(_item=items.gather(near["item"]))
        name = storage.join(self._job.out, folder, f"{part:05d}.parquet")
        storage.write_bytes(name, batches.parquet(batches.to_batch(rows, schema.co_occurrence_schema())))
        yield f"{folder}|items|{self._job.plan.day}|", len(rows)


def merged(parts: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The sum of users by item."""
    return batches.to_batch(batches.to_frame(parts).group_by("item").agg(pl.col("n").sum()), together.TAKERS)


def _items(table: pa.RecordBatch) -> pl.Series:
    """The distinct items of the count table, sorted."""
    return pl.Series(pl.from_arrow(table.column("_item")), dtype=pl.String).unique().sort()
