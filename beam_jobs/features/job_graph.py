"""How the feature job's steps are connected. Elements are Arrow batches of thousands of rows, never
one event each.

files -> records by shard of the users -> one shard at a time: examples, queries, users, and its
part of what all shards have to know together, the count table and the lots of the held-out -> files
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsDict, AsSideInput, AsSingleton, PBegin, PCollection

from beam_jobs import user_hashing
from beam_jobs.features import job_report, output_files, read_steps, shard_steps
from beam_jobs.features.co_occurrence_steps import CoOccurrence
from beam_jobs.ingest.record_blocks import Rejected
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.job import FeatureJob

_Sharded = tuple[int, pa.RecordBatch]
_Named = tuple[str, pa.RecordBatch]
_Counted = tuple[str, int]
_READ = {read_steps.NUMBERS: _Counted, read_steps.REJECTED: Rejected, "records": _Sharded}
_WORK = {
    read_steps.NUMBERS: _Counted,
    shard_steps.COUNTS: _Sharded,
    shard_steps.SAMPLING_HASHES: tuple[int, bytes],
    shard_steps.EXAMPLES: _Named,
    shard_steps.ANALYSIS: pa.RecordBatch,
    shard_steps.EVALUATION: _Named,
    shard_steps.USERS: _Named,
    shard_steps.PASTS: _Named,
    shard_steps.BASKETS: _Named,
}
_EXAMPLES = {read_steps.NUMBERS: _Counted, shard_steps.EXAMPLES: pa.RecordBatch}
_CORPUS = {
    read_steps.REJECTED: Rejected,
    read_steps.NUMBERS: _Counted,
    output_files.MEMBERS: _Named,
}


class Rows(NamedTuple):
    """Record batches that others look at.

    Attributes:
      analysis: what the transform graph is fitted on, `schema.analysis_schema`.
      examples: those of the day, `schema.example_schema`.
    """

    analysis: PCollection
    examples: PCollection


@dataclass
class RawFeatures(beam.PTransform):
    """Writes all of the stage's output that needs no transform graph, and the numbers of the
    report; returns `Rows`.
    """

    job: FeatureJob

    def expand(self, begin: PBegin) -> Any:
        """Connects the steps."""
        job = self.job
        read = begin | "Read" >> ReadRecords(job)
        made = (
            read["records"]
            | "Group users" >> beam.GroupByKey()
            | "Work" >> _tagged(shard_steps.Work(job), _WORK)
        )
        table = AsSingleton(made[shard_steps.COUNTS] | "Count table" >> CountTable())
        held_out = AsDict(
            made[shard_steps.SAMPLING_HASHES] | "Held out" >> HeldOut(job.most_held_out)
        )
        files = made[shard_steps.EXAMPLES] | "Group files" >> beam.GroupByKey()
        examples = files | "Examples" >> _tagged(
            output_files.FinishExamples(job), _EXAMPLES, table, held_out
        )
        corpora = (
            begin
            | "Once" >> beam.Create([None])
            | "Corpora" >> _tagged(output_files.FinishCorpus(job), _CORPUS, table)
        )
        numbers = [
            read[read_steps.NUMBERS],
            made[read_steps.NUMBERS],
            corpora[read_steps.NUMBERS],
            examples[read_steps.NUMBERS],
            made[shard_steps.EVALUATION]
            | "Evaluation" >> _count(output_files.FinishQueries(job), held_out),
            made[shard_steps.USERS] | "Users" >> _count(output_files.FinishUsers(job)),
            made[shard_steps.PASTS] | "Pasts" >> _count(output_files.FinishPasts(job)),
        ]
        if job.p.mix.uses_co_occurrence:
            members = AsDict(corpora[output_files.MEMBERS])
            numbers.append(
                made[shard_steps.BASKETS] | "Together" >> CoOccurrence(job, table, members)
            )
        rejected = [read[read_steps.REJECTED], corpora[read_steps.REJECTED]]
        _ = numbers | "All numbers" >> beam.Flatten() | "Report" >> WriteNumbers(job)
        _ = rejected | "All rejected" >> beam.Flatten() | "Rejected" >> WriteRejected(job)
        analysis = beam.ParDo(output_files.FinishAnalysis(job), table).with_output_types(
            pa.RecordBatch
        )
        return Rows(
            made[shard_steps.ANALYSIS] | "Analysis" >> analysis, examples[shard_steps.EXAMPLES]
        )


@dataclass
class ReadRecords(beam.PTransform):
    """Reads all files: `records` by shard of their user, `NUMBERS`, `REJECTED`."""

    job: FeatureJob

    def expand(self, begin: PBegin) -> Any:
        """Small files are put together, large ones cut into parts, and these spread over the
        workers.
        """
        inputs = self.job.inputs
        tables = ({**inputs.events, **self.job.late.files}, inputs.users)
        files = [
            (f, place) for t in tables for place, f in enumerate(chain.from_iterable(t.values()))
        ]
        packs = begin | beam.Create(read_steps.pack(files), reshuffle=False)
        parts = packs | "Cut" >> beam.FlatMap(read_steps.cut, self.job.p.source.format)
        return parts | beam.Reshuffle() | "Parse" >> _tagged(read_steps.Read(self.job), _READ)


class CountTable(beam.PTransform):
    """(0, partial count tables) -> the one count table."""

    def expand(self, partials: PCollection) -> PCollection:
        """Adds up; an empty table stands in for the case that there are no events at all."""
        nothing = partials.pipeline | beam.Create([(0, item_counts.EMPTY)]).with_output_types(
            _Sharded
        )
        merged = beam.MapTuple(lambda _, tables: item_counts.merge(tables)).with_output_types(
            pa.RecordBatch
        )
        return (partials, nothing) | beam.Flatten() | beam.GroupByKey() | "Merge" >> merged


@dataclass
class HeldOut(beam.PTransform):
    """(day, smallest lots of a shard) -> (day, the largest lot that is held out)."""

    most: int

    def expand(self, lots: PCollection) -> PCollection:
        """Looks at all shards' lots of a day together."""
        last = beam.MapTuple(
            lambda day, lots: (day, user_hashing.last_held_out_hash(lots, self.most))
        )
        return lots | beam.GroupByKey() | "Last lot" >> last.with_output_types(tuple[int, int])


@dataclass
class WriteNumbers(beam.PTransform):
    """Adds numbers up and writes them, once."""

    job: FeatureJob

    def expand(self, numbers: PCollection) -> PCollection:
        """Brings them together; there always are some."""
        write = beam.MapTuple(lambda _, numbers: job_report.write_numbers(self.job, numbers))
        return numbers | beam.WithKeys(0) | beam.GroupByKey() | "Write" >> write


@dataclass
class WriteRejected(beam.PTransform):
    """Writes rejected records into one file, if there are any."""

    job: FeatureJob

    def expand(self, records: PCollection) -> PCollection:
        """Brings them together."""
        write = beam.MapTuple(lambda _, records: job_report.write_rejected(self.job, records))
        return records | beam.WithKeys(0) | beam.GroupByKey() | "Write" >> write


def _count(fn: beam.DoFn, *side_inputs: AsSideInput) -> beam.ParDo:
    return beam.ParDo(fn, *side_inputs).with_output_types(_Counted)


def _tagged(fn: beam.DoFn, types: dict[str, Any], *side_inputs: AsSideInput) -> beam.PTransform:
    """A ParDo with tagged outputs only, each with the type by which it travels."""
    return beam.ParDo(fn, *side_inputs).with_output_types(Any, **types).with_outputs(*types)
