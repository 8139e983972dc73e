"""Item-to-item co-occurrence as steps of the job: sizes of baskets -> how much of each is paired;
baskets by part of the items -> its pairs -> neighbours.

A basket goes to every part that it has an item of, and is paired there: baskets are far fewer rows
than their pairs.

All of it is done for two moments, as for the corpora: the start of the day, to measure by, and its
end, to be published.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsDict, AsSideInput, PCollection, TaggedOutput

from beam_jobs.beam import batches
from beam_jobs.features.counters import Count, Counted, count
from beam_jobs.point_in_time import co_occurrence
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.contracts import feature_schema

NEIGHBOURS = 50
"""Items kept for each item, the nearest."""
_BASKETS = "baskets"
_USER_COUNTS = "user_counts"
Place: TypeAlias = tuple[str, int]
"""Folder of the output, and a part of the items."""


@dataclass
class CoOccurrence(beam.PTransform):
    """(folder, `co_occurrence.TAKEN` of a shard) -> the files; returns counts.

    Attributes:
      job: the job.
      table: the count table.
      members: (folder of a corpus, its `_item`).
      sizes: (folder, `co_occurrence.basket_sizes` of a shard, as bytes).
    """

    job: FeatureJob
    table: AsSideInput
    members: AsDict
    sizes: PCollection

    def expand(self, baskets: PCollection) -> PCollection:
        """Connects the steps."""
        job = self.job
        types = {
            _BASKETS: tuple[Place, pa.RecordBatch],
            _USER_COUNTS: tuple[str, pa.RecordBatch],
        }
        longest = (
            self.sizes
            | "All sizes" >> beam.GroupByKey()
            | "Longest" >> beam.MapTuple(_longest).with_output_types(tuple[str, int])
        )
        spread_step = beam.ParDo(Spread(), self.table, AsDict(longest))
        spread_step = spread_step.with_output_types(tuple, **types)
        spread = baskets | "Spread" >> spread_step.with_outputs(*types)
        summed = beam.MapTuple(lambda folder, parts: (folder, summed_user_counts(parts)))
        user_counts = (
            spread[_USER_COUNTS]
            | "By moment" >> beam.GroupByKey()
            | "Sum user counts" >> summed.with_output_types(tuple[str, pa.RecordBatch])
        )
        # One empty part for each moment, so that there is a file even if nobody took anything.
        nothing = [((folder, 0), co_occurrence.NO_BASKETS) for folder in co_occurrence.moments(job)]
        empty = baskets.pipeline | beam.Create(nothing, reshuffle=False).with_output_types(
            tuple[Place, pa.RecordBatch]
        )
        nearest = beam.ParDo(Nearest(job), self.table, AsDict(user_counts), self.members)
        parts = (spread[_BASKETS], empty) | beam.Flatten() | "By part" >> beam.GroupByKey()
        return parts | "Nearest" >> nearest.with_output_types(Count)


class Spread(beam.DoFn):
    """(folder, baskets) -> `_BASKETS` by part of the items; `_USER_COUNTS`, users of each item."""

    def process(
        self,
        element: tuple[str, pa.RecordBatch],
        table: pa.RecordBatch,
        longest: Mapping[str, int],
    ) -> Iterator[Any]:
        """Sends baskets to where they are paired."""
        folder, spilled = element
        whole = batches.restore(spilled)
        kept = co_occurrence.cut(whole["_code"].to_numpy(), longest[folder])
        taken = whole.filter(pa.array(kept))
        items = _items(table)
        user = taken.column("_code").to_numpy()
        # Every item that was taken is in the count table, which is sorted by item.
        ids = pl.Series(pl.from_arrow(taken.column("_item")))
        item = items.search_sorted(ids).to_numpy().astype(np.int64)
        distinct, users = np.unique(item, return_counts=True)
        counted = pa.RecordBatch.from_arrays([distinct, users], schema=co_occurrence.USER_COUNTS)
        yield TaggedOutput(_USER_COUNTS, (folder, counted))
        # By parts of the items: no worker has to hold all pairs, and each pair is counted whole in
        # the part of its first item.
        for part in range(co_occurrence.PARTS):
            kept = co_occurrence.of_part(user, item, _part(part, len(items)))
            if kept.any():
                columns = [user[kept].astype(np.int32), item[kept].astype(np.int32)]
                baskets = pa.RecordBatch.from_arrays(columns, schema=co_occurrence.BASKETS)
                yield TaggedOutput(_BASKETS, ((folder, part), baskets))


class _NumberedItems(NamedTuple):
    """The items by their number.

    Attributes:
      ids: [N] String.
      users: [N] int64, who have each.
      row: [N] int64, in the corpus; -1 where it has none.
    """

    ids: pl.Series
    users: np.ndarray
    row: np.ndarray


class Nearest(beam.DoFn):
    """((folder, part), baskets) -> the file; counts the items that have neighbours."""

    def __init__(self, job: FeatureJob) -> None:
        self._job = job

    def start_bundle(self) -> None:
        """Forgets what the side inputs of another bundle were."""
        self._known: dict[str, _NumberedItems] = {}

    def process(
        self,
        element: tuple[Place, Iterable[pa.RecordBatch]],
        table: pa.RecordBatch,
        user_counts: Mapping[str, pa.RecordBatch],
        members: Mapping[str, pa.RecordBatch],
    ) -> Iterator[Count]:
        """Writes a file."""
        (folder, number), baskets = element
        if folder not in self._known:
            corpus_folder, _ = co_occurrence.moments(self._job)[folder]
            self._known[folder] = _numbered(table, user_counts.get(folder), members[corpus_folder])
        items = self._known[folder]
        part = _part(number, len(items.ids))
        # Users are numbered anew in each batch, and none is in two: pairs are made batch by batch,
        # and then added up.
        pairs = []
        for batch in baskets:
            user = batch.column("user").to_numpy()
            item = batch.column("item").to_numpy()
            pairs.append(co_occurrence.pairs(user, item, part, len(items.ids)))
        near = co_occurrence.nearest(co_occurrence.added(pairs), items.users, items.row, NEIGHBOURS)
        rows = near.with_columns(_item=items.ids.gather(near["item"]))
        batch = batches.to_batch(rows, feature_schema.co_occurrence_schema())
        name = storage.join(self._job.out, folder, f"{number:05d}.parquet")
        storage.write_bytes(name, batches.parquet([batch]))
        yield count(Counted.LISTED, "items", self._job.plan.day, len(rows), folder)


def _numbered(
    table: pa.RecordBatch, user_counts: pa.RecordBatch | None, corpus: pa.RecordBatch
) -> _NumberedItems:
    ids = _items(table)
    users = np.zeros(len(ids), np.int64)
    if user_counts is not None:
        users[user_counts.column("item").to_numpy()] = user_counts.column("n").to_numpy()
    members = corpus.column("_item").cast(pa.string())
    row = pc.index_in(ids.to_arrow().cast(pa.string()), members).fill_null(-1)
    return _NumberedItems(ids, users, row.to_numpy(zero_copy_only=False).astype(np.int64))


def _part(number: int, items: int) -> range:
    """Numbers of the items of a part; parts differ by one item at the most."""
    first = -(-number * items // co_occurrence.PARTS)
    end = -(-(number + 1) * items // co_occurrence.PARTS)
    return range(first, end)


def _longest(folder: str, sizes: Iterable[bytes]) -> tuple[str, int]:
    """How many items of a basket are paired, of the sizes that shards found."""
    total = np.sum([np.frombuffer(of_shard, np.int64) for of_shard in sizes], axis=0)
    return folder, co_occurrence.longest_paired(total)


def summed_user_counts(parts: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The sum of users by item. No user is in two shards, so nobody is counted twice."""
    total = batches.to_frame(parts).group_by("item").agg(pl.col("n").sum())
    return batches.to_batch(total, co_occurrence.USER_COUNTS)


def _items(table: pa.RecordBatch) -> pl.Series:
    """The distinct items of the count table, which is sorted by item."""
    items = pl.Series(pl.from_arrow(table.column("_item")), dtype=pl.String)
    return items.filter(items.ne_missing(items.shift()))
