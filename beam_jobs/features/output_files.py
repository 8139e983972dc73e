"""What becomes of the frames that shards made, once it is known what all shards know together: the
output files.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.beam.batches import restore
from beam_jobs.features.read_steps import NUMBERS, REJECTED
from beam_jobs.features.shard_steps import EXAMPLES
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import corpus, item_counts, item_features
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH
from twinspire_core import storage
from twinspire_core.contracts import feature_schema

MEMBERS = "members"
"""(folder of a corpus, its items)."""


class Finish(beam.DoFn):
    """Frames that a shard made -> files, with what all shards know together; yields numbers."""

    def __init__(self, job: FeatureJob) -> None:
        self._job, self._p = job, job.p

    def _write(self, name: str, rows: Iterable[pa.RecordBatch]) -> None:
        storage.write_bytes(storage.join(self._job.out, name), batches.parquet(list(rows)))


class FinishExamples(Finish):
    """(file, batches of its rows) -> the file, sorted by time, user, item; `NUMBERS`, `EXAMPLES` of
    the day's own.
    """

    def process(
        self,
        element: tuple[str, Iterable[pa.RecordBatch]],
        table: pa.RecordBatch,
        held_out: Mapping[int, int],
    ) -> Iterator[Any]:
        """Writes a file."""
        name, parts = element
        day = date.fromisoformat(name.split("/")[1].removeprefix("dt="))
        rows = batches.to_frame(map(restore, parts)).sort("_time", "_user", "_item", ORDER)
        rows = rows.with_columns(_is_held_out(held_out.get(day_plan.number(day))).alias("_holdout"))
        at = self._job.inputs.items_of.get(day)
        rows = item_counts.add(
            self._job.p, rows, item_features.known_at(self._job, day, _frame(table))
        )
        made = list(
            batches.to_batches(
                item_features.with_item_features(self._job, rows, at, day),
                feature_schema.example_schema(self._p),
            )
        )
        self._write(name, made)
        yield TaggedOutput(NUMBERS, (f"examples|events|{day}|", len(rows)))
        yield TaggedOutput(
            NUMBERS, (f"held out examples|events|{day}|", int(rows["_holdout"].sum()))
        )
        if day == self._job.plan.day:
            yield from (TaggedOutput(EXAMPLES, batch) for batch in made)


class FinishAnalysis(Finish):
    """Batch -> batch of `analysis_schema`."""

    def process(self, batch: pa.RecordBatch, table: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Adds item features: counts of each day, all else from the snapshot of the last."""
        known = item_features.known_on(self._job, _frame(table))
        rows = _frame(restore(batch)).join(
            known, on=["_item", "_day"], how="left", maintain_order="left"
        )
        rows = item_features.with_item_features(
            self._job, rows, self._job.inputs.items_of.get(self._job.plan.day), pl.col("_day")
        )
        yield batches.to_batch(rows, feature_schema.analysis_schema(self._p))


class FinishQueries(Finish):
    """(file, batch) -> the file, of the last day's users and the earlier days' held-out ones."""

    def process(
        self, element: tuple[str, pa.RecordBatch], held_out: Mapping[int, int]
    ) -> Iterator[tuple[str, int]]:
        """Writes a file."""
        rows = batches.to_frame([restore(element[1])])
        parts = []
        for day in self._job.plan.evaluation:
            asked = rows.filter(pl.col("_day") == day).sort("_user")
            asked = asked.with_columns(
                _is_held_out(held_out.get(day_plan.number(day))).alias("_holdout")
            )
            parts.append(asked if day == self._job.plan.day else asked.filter("_holdout"))
            yield f"queries|events|{day}|", len(parts[-1])
            yield f"held out queries|events|{day}|", int(parts[-1]["_holdout"].sum())
        self._write(
            element[0],
            batches.to_batches(pl.concat(parts), feature_schema.evaluation_schema(self._p)),
        )


class FinishUsers(Finish):
    """(file, batch) -> the file."""

    def process(self, element: tuple[str, pa.RecordBatch]) -> Iterator[tuple[str, int]]:
        """Writes a file."""
        self._write(element[0], [element[1]])
        yield f"known users|events|{self._job.plan.day}|", len(element[1])


class FinishPasts(Finish):
    """(file, batch) -> the file."""

    def process(self, element: tuple[str, pa.RecordBatch]) -> Iterator[tuple[str, int]]:
        """Writes a file."""
        self._write(element[0], [element[1]])
        yield f"pasts|events|{self._job.plan.day}|", len(element[1])


class FinishCorpus(Finish):
    """Any element -> the corpora; their `MEMBERS`; `NUMBERS`, `REJECTED` records of the items."""

    def process(self, _: None, table: pa.RecordBatch) -> Iterator[Any]:
        """Writes the files."""
        day, known = self._job.plan.day, _frame(table)
        for moment in self._job.plan.corpora:
            folder = feature_schema.CORPUS_START if moment == day else feature_schema.CORPUS_END
            rows = corpus.corpus(self._job, moment, known)
            kind = corpus.schema_of(self._job, rows)
            for part, start in enumerate(
                range(0, max(1, len(rows)), feature_schema.CORPUS_FILE_ROWS)
            ):
                of_file = batches.to_batches(
                    rows[start : start + feature_schema.CORPUS_FILE_ROWS], kind
                )
                self._write(f"{folder}/{part:05d}.parquet", of_file)
            yield TaggedOutput(NUMBERS, (f"{folder}|items|{day}|", len(rows)))
            yield TaggedOutput(MEMBERS, (folder, batches.to_batch(rows.select("_item"))))
        yield from (TaggedOutput(NUMBERS, number) for number in self._numbers(known))
        if (at := self._job.inputs.items_of.get(day)) is not None:
            yield from (
                TaggedOutput(REJECTED, record)
                for record in item_features.account(self._job, at).rejected
            )

    def _numbers(self, known: pl.DataFrame) -> Iterator[tuple[str, int]]:
        day = self._job.plan.day
        unlisted = corpus.unlisted(self._job, known)
        yield f"unlisted|items|{day}|", len(unlisted)
        yield f"unlisted events|items|{day}|", int(unlisted["n"].sum())
        yield f"items|events|{day}|", len(known.filter(pl.col("_day") == day_plan.number(day)))
        if (at := self._job.inputs.items_of.get(day)) is not None:
            account = item_features.account(self._job, at)
            yield f"good|items|{at}|", account.good
            yield f"doubles|items|{at}|", account.doubles
            yield from (
                (f"rejected|items|{at}|{reason}", n) for reason, n in account.reasons.items()
            )


def _is_held_out(last: int | None) -> pl.Expr:
    return pl.col(SAMPLING_HASH) <= pl.lit(last, pl.UInt64) if last is not None else pl.lit(False)


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(batch))
