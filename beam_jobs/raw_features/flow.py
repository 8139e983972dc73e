"""How the feature job's steps are connected. Elements are Arrow batches of thousands of rows, never one event each.

files -> records by shard of the users -> one shard at a time: examples, queries, users, and its part of what all
shards have to know together, the count table and the lots of the held-out -> files
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsDict, AsSideInput, AsSingleton, PBegin, PCollection

from beam_jobs.point_in_time import counts
from beam_jobs.point_in_time.job import Job
from beam_jobs.raw_features import finish, steps
from beam_jobs.raw_features.together import CoOccurrence
from beam_jobs.reading.rejected import Rejected

_Sharded = tuple[int, pa.RecordBatch]
_Named = tuple[str, pa.RecordBatch]
_Counted = tuple[str, int]
_READ = {steps.NUMBERS: _Counted, steps.REJECTED: Rejected, "records": _Sharded}
_WORK = {
    steps.NUMBERS: _Counted,
    steps.COUNTS: _Sharded,
    steps.LOTS: tuple[int, bytes],
    steps.EXAMPLES: _Named,
    steps.ANALYSIS: pa.RecordBatch,
    steps.EVALUATION: _Named,
    steps.USERS: _Named,
    steps.PASTS: _Named,
    steps.BASKETS: _Named,
}
_EXAMPLES = {steps.NUMBERS: _Counted, steps.EXAMPLES: pa.RecordBatch}
_CORPUS = {steps.REJECTED: Rejected, steps.NUMBERS: _Counted, steps.MEMBERS: _Named}


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
    """Writes all of the stage's output that needs no transform graph, and the numbers of the report; returns `Rows`."""

    job: Job

    def expand(self, begin: PBegin) -> Any:
        """Connects the steps."""
        job = self.job
        read = begin | "Read" >> ReadRecords(job)
        made = read["records"] | "Group users" >> beam.GroupByKey() | "Work" >> _tagged(steps.Work(job), _WORK)
        table = AsSingleton(made[steps.COUNTS] | "Count table" >> CountTable())
        held_out = AsDict(made[steps.LOTS] | "Held out" >> HeldOut(job.most_held_out))
        files = made[steps.EXAMPLES] | "Group files" >> beam.GroupByKey()
        examples = files | "Examples" >> _tagged(finish.FinishExamples(job), _EXAMPLES, table, held_out)
        corpora = begin | "Once" >> beam.Create([None]) | "Corpora" >> _tagged(finish.FinishCorpus(job), _CORPUS, table)
        numbers = [
            read[steps.NUMBERS],
            made[steps.NUMBERS],
            corpora[steps.NUMBERS],
            examples[steps.NUMBERS],
            made[steps.EVALUATION] | "Evaluation" >> _count(finish.FinishQueries(job), held_out),
            made[steps.USERS] | "Users" >> _count(finish.FinishUsers(job)),
            made[steps.PASTS] | "Pasts" >> _count(finish.FinishPasts(job)),
        ]
        if job.p.mix.pairs:
            members = AsDict(corpora[steps.MEMBERS])
            numbers.append(made[steps.BASKETS] | "Together" >> CoOccurrence(job, table, members))
        rejected = [read[steps.REJECTED], corpora[steps.REJECTED]]
        _ = numbers | "All numbers" >> beam.Flatten() | "Report" >> WriteNumbers(job)
        _ = rejected | "All rejected" >> beam.Flatten() | "Rejected" >> WriteRejected(job)
        analysis = beam.ParDo(finish.FinishAnalysis(job), table).with_output_types(pa.RecordBatch)
        return Rows(made[steps.ANALYSIS] | "Analysis" >> analysis, examples[steps.EXAMPLES])


@dataclass
class ReadRecords(beam.PTransform):
    """Reads all files: `records` by shard of their user, `NUMBERS`, `REJECTED`."""

    job: Job

    def expand(self, begin: PBegin) -> Any:
        """Small files are put together, large ones cut into parts, and these spread over the workers."""
        inputs = self.job.inputs
        tables = ({**inputs.events, **self.job.late.files}, inputs.users)
        files = [(f, place) for t in tables for place, f in enumerate(chain.from_iterable(t.values()))]
        packs = begin | beam.Create(steps.pack(files), reshuffle=False)
        parts = packs | "Cut" >> beam.FlatMap(steps.cut, self.job.p.source.format)
        return parts | beam.Reshuffle() | "Parse" >> _tagged(steps.Read(self.job), _READ)


class CountTable(beam.PTransform):
    """(0, partial count tables) -> the one count table."""

    def expand(self, partials: PCollection) -> PCollection:
        """Adds up; an empty table stands in for the case that there are no events at all."""
        nothing = partials.pipeline | beam.Create([(0, counts.EMPTY)]).with_output_types(_Sharded)
        merged = beam.MapTuple(lambda _, tables: counts.merge(tables)).with_output_types(pa.RecordBatch)
        return (partials, nothing) | beam.Flatten() | beam.GroupByKey() | "Merge" >> merged


@dataclass
class HeldOut(beam.PTransform):
    """(day, smallest lots of a shard) -> (day, the largest lot that is held out)."""

    most: int

    def expand(self, lots: PCollection) -> PCollection:
        """Looks at all shards' lots of a day together."""
        last = beam.MapTuple(lambda day, lots: (day, steps.last_lot(lots, self.most)))
        return lots | beam.GroupByKey() | "Last lot" >> last.with_output_types(tuple[int, int])


@dataclass
class WriteNumbers(beam.PTransform):
    """Adds numbers up and writes them, once."""

    job: Job

    def expand(self, numbers: PCollection) -> PCollection:
        """Brings them together; there always are some."""
        write = beam.MapTuple(lambda _, numbers: steps.write_numbers(self.job, numbers))
        return numbers | beam.WithKeys(0) | beam.GroupByKey() | "Write" >> write


@dataclass
class WriteRejected(beam.PTransform):
    """Writes rejected records into one file, if there are any."""

    job: Job

    def expand(self, records: PCollection) -> PCollection:
        """Brings them together."""
        write = beam.MapTuple(lambda _, records: steps.write_rejected(self.job, records))
        return records | beam.WithKeys(0) | beam.GroupByKey() | "Write" >> write


def _count(fn: beam.DoFn, *side_inputs: AsSideInput) -> beam.ParDo:
    return beam.ParDo(fn, *side_inputs).with_output_types(_Counted)


def _tagged(fn: beam.DoFn, types: dict, *side_inputs: AsSideInput) -> beam.PTransform:
    """A ParDo with tagged outputs only, each with the type by which it travels."""
    return beam.ParDo(fn, *side_inputs).with_output_types(Any, **types).with_outputs(*types)
