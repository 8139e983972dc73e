"""Connects the steps of the feature job. Add a new output or step here.

    files -> records by shard of users -> rows of each table, by file -> files
                                       -> counts and hashes of all shards, added up: side inputs

Elements are Arrow batches of thousands of rows, never single events. A shard has the full histories of its
users. Counts of items and the choice of held-out users need all shards, so they are added to the rows later,
before rows are written to files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsDict, AsSideInput, AsSingleton, PBegin, PCollection

from beam_jobs import hashing
from beam_jobs.features import read_steps, table_steps
from beam_jobs.features.report import Count, Counters
from beam_jobs.ingest.records import Rejected, to_json_lines
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

_Sharded: TypeAlias = tuple[int, pa.RecordBatch]
_Named: TypeAlias = tuple[str, pa.RecordBatch]
# Types of the tagged outputs of steps: Beam chooses the coder of an element by its type.
_READ = {
    read_steps.COUNTS: Count,
    read_steps.REJECTED: Rejected,
    read_steps.RECORDS: _Sharded,
}
_WORK = {
    read_steps.COUNTS: Count,
    table_steps.COUNT_TABLES: _Sharded,
    table_steps.SAMPLING_HASHES: tuple[int, bytes],
    table_steps.EXAMPLES: _Named,
    table_steps.ANALYSIS: pa.RecordBatch,
    table_steps.EVALUATION: _Named,
    table_steps.USERS: _Named,
}
_EXAMPLES = {read_steps.COUNTS: Count, table_steps.EXAMPLES: pa.RecordBatch}
_CORPUS = {
    read_steps.COUNTS: Count,
    read_steps.REJECTED: Rejected,
}


class Rows(NamedTuple):
    """Record batches for statistics and the analysis of the transform graph.

    Attributes:
      analysis: the rows that the graph is fitted on, with `feature_schema.analysis_schema` of either tower.
      examples: those of the day, with `feature_schema.example_schema`.
    """

    analysis: PCollection
    examples: PCollection


@dataclass
class RawFeatures(beam.PTransform):
    """Writes all output of the stage that needs no transform graph, and the counters; gives `Rows`."""

    job: FeatureJob

    def expand(self, begin: PBegin) -> Any:
        """Connects the steps."""
        # Workers get the job without its lists of files, which may be long.
        job = self.job.for_workers()
        read = _read_records(begin, self.job)
        by_shard = read[read_steps.RECORDS] | "Group users" >> beam.GroupByKey()
        made = by_shard | "Work" >> _tag(table_steps.Work(job), _WORK)
        # A side input is complete before the steps that take it begin.
        table = AsSingleton(_add_up_counts(made[table_steps.COUNT_TABLES], job.p))
        held_out = AsDict(_find_held_out(made[table_steps.SAMPLING_HASHES], job.most_held_out))

        def finish(name: str, rows: str, step: beam.PTransform) -> Any:
            # Grouped by file, as a file has rows of several shards.
            return made[rows] | f"{name} by file" >> beam.GroupByKey() | name >> step

        finish_examples = table_steps.FinishExamples(job)
        examples = finish(
            "Examples", table_steps.EXAMPLES, _tag(finish_examples, _EXAMPLES, table, held_out)
        )
        # One element for each day, so that workers make corpora in parallel.
        moments = begin | "Moments" >> beam.Create(job.plan.corpora)
        corpora = moments | "Corpora" >> _tag(table_steps.FinishCorpus(job), _CORPUS, table)
        finish_queries = table_steps.FinishQueries(job)
        finish_users = table_steps.FinishUsers(job)
        counts = [
            *(part[read_steps.COUNTS] for part in (read, made, corpora, examples)),
            finish("Evaluation", table_steps.EVALUATION, _count_by(finish_queries, held_out)),
            finish("Users", table_steps.USERS, _count_by(finish_users)),
        ]
        _write_together("Counters", counts, lambda parts: Counters(parts).write(job.out))
        rejected = [part[read_steps.REJECTED] for part in (read, corpora)]
        uri = storage.join(job.out, feature_schema.REJECTED, "records.jsonl")
        _write_together(
            "Rejected", rejected, lambda records: storage.write_bytes(uri, to_json_lines(records))
        )

        analyse = beam.ParDo(table_steps.AnalyseItems(job), table)
        items = (
            begin
            | "Once" >> beam.Create([None])
            | "Analyse items" >> analyse.with_output_types(pa.RecordBatch)
        )
        analysis = (made[table_steps.ANALYSIS], items) | "Analysis" >> beam.Flatten()
        return Rows(analysis, examples[table_steps.EXAMPLES])


def _read_records(begin: PBegin, job: FeatureJob) -> Any:
    """Reads all files: `RECORDS` by shard of their user, `COUNTS`, `REJECTED`. Small files are read
    together, and large ones part by part.
    """
    groups = begin | "Files" >> beam.Create(read_steps.plan_packs(job), reshuffle=False)
    parts = groups | "Cut" >> beam.FlatMap(read_steps.cut, job.p.source.format)
    # Without a shuffle here, Beam would fuse reading with cutting, and one worker would read all
    # parts of a large file.
    spread = parts | "Spread parts" >> beam.Reshuffle()
    return spread | "Read" >> _tag(read_steps.Read(job.for_workers()), _READ)


def _add_up_counts(partials: PCollection, p: Pipeline) -> PCollection:
    """(part of the items, partial count table) -> the one count table.

    Each part is added up on its own, so that one worker only has to join the parts:

        shard 1: (0, a) (1, b)    ->  (0, a + c)  ->  one table
        shard 2: (0, c) (1, d)        (1, b + d)
    """
    # Makes sure that there is a table even without events.
    nothing = beam.Create([(0, item_counts.empty(p))]).with_output_types(_Sharded)
    merge_part = beam.MapTuple(lambda _, tables: (0, item_counts.merge(p, tables)))
    join = beam.MapTuple(lambda _, tables: item_counts.merge(p, tables))
    return (
        (partials, partials.pipeline | "No events" >> nothing)
        | "Count tables" >> beam.Flatten()
        | "By part" >> beam.GroupByKey()
        | "Merge" >> merge_part.with_output_types(_Sharded)
        | "Parts" >> beam.GroupByKey()
        | "Join" >> join.with_output_types(pa.RecordBatch)
    )


def _find_held_out(hashes: PCollection, most: int) -> PCollection:
    """(number of a day, smallest sampling hashes of a shard) -> (number of the day, the last held-out
    hash).
    """
    last = beam.MapTuple(lambda day, parts: (day, hashing.last_held_out_hash(parts, most)))
    by_day = hashes | "Hashes by day" >> beam.GroupByKey()
    # Not `int`, which Beam encodes as a signed 64-bit number: larger hashes would not fit.
    return by_day | "Last hash" >> last.with_output_types(tuple[int, Any])


def _write_together(
    name: str, parts: list[PCollection], write: Callable[[Iterable[Any]], None]
) -> None:
    """Calls one function with all elements of some collections, if there are any."""
    every = parts | f"{name} of all" >> beam.Flatten() | f"{name} by 0" >> beam.WithKeys(0)
    grouped = every | f"{name} together" >> beam.GroupByKey()
    _ = grouped | name >> beam.MapTuple(lambda _, elements: write(elements))


def _count_by(fn: beam.DoFn, *side_inputs: AsSideInput) -> beam.ParDo:
    """A ParDo that writes files and gives counts."""
    return beam.ParDo(fn, *side_inputs).with_output_types(Count)


def _tag(fn: beam.DoFn, types: dict[str, Any], *side_inputs: AsSideInput) -> beam.PTransform:
    """A ParDo with tagged outputs only, each of a type that Beam knows a coder for."""
    return beam.ParDo(fn, *side_inputs).with_output_types(Any, **types).with_outputs(*types)
