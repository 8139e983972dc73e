"""How the steps of the feature job are connected. Elements are Arrow batches of thousands of rows, never
single events.

Files become records by shard of the users. A shard gives examples, queries and users, and its part of
what all shards have to know together: the count table, and the sampling hashes of users who may be held
out. With these, rows become files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsDict, AsSideInput, AsSingleton, PBegin, PCollection

from beam_jobs import hashing
from beam_jobs.features import event_packs, output_files, read_steps, shard_steps
from beam_jobs.features.report import Count, Counted, Counters
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
    shard_steps.COUNT_TABLES: _Sharded,
    shard_steps.SAMPLING_HASHES: tuple[int, bytes],
    shard_steps.EXAMPLES: _Named,
    shard_steps.ANALYSIS: pa.RecordBatch,
    shard_steps.EVALUATION: _Named,
    shard_steps.USERS: _Named,
    shard_steps.SEQUENCES: _Named,
}
_EXAMPLES = {read_steps.COUNTS: Count, shard_steps.EXAMPLES: pa.RecordBatch}
_CORPUS = {
    read_steps.COUNTS: Count,
    read_steps.REJECTED: Rejected,
}


class Rows(NamedTuple):
    """Record batches for statistics and the analysis of the transform graph.

    Attributes:
      analysis: what the graph is fitted on, with `feature_schema.analysis_schema` of either tower.
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
        read = _read(begin, self.job)
        job = self.job.for_workers()
        made = (
            read[read_steps.RECORDS]
            | "Group users" >> beam.GroupByKey()
            | "Work" >> _tagged(shard_steps.Work(job), _WORK)
        )
        # What all shards know together is a side input of the steps below, which so wait for it.
        table = AsSingleton(_count_table(made[shard_steps.COUNT_TABLES], job.p))
        held_out = AsDict(_last_held_out(made[shard_steps.SAMPLING_HASHES], job.most_held_out))

        def files(name: str, of: str, finish: beam.PTransform) -> Any:
            # Grouped by file, as a file has rows of several shards.
            return made[of] | f"{name} by file" >> beam.GroupByKey() | name >> finish

        finish_examples = _tagged(output_files.FinishExamples(job), _EXAMPLES, table, held_out)
        examples = files("Examples", shard_steps.EXAMPLES, finish_examples)
        finish_corpus = _tagged(output_files.FinishCorpus(job), _CORPUS, table)
        # One element for each day, so that workers make corpora in parallel.
        moments = begin | "Moments" >> beam.Create(job.plan.corpora)
        corpora = moments | "Corpora" >> finish_corpus
        finish_queries = _counting(output_files.FinishQueries(job), held_out)

        finish_users = _counting(
            output_files.FinishUsers(job, feature_schema.users_schema(job.p), Counted.KNOWN_USERS)
        )
        finish_sequences = _counting(
            output_files.FinishUsers(
                job, feature_schema.sequences_schema(), Counted.LISTED, "users"
            )
        )
        counts = [
            read[read_steps.COUNTS],
            made[read_steps.COUNTS],
            corpora[read_steps.COUNTS],
            examples[read_steps.COUNTS],
            files("Evaluation", shard_steps.EVALUATION, finish_queries),
            files("Users", shard_steps.USERS, finish_users),
            files("Sequences", shard_steps.SEQUENCES, finish_sequences),
        ]
        rejected = [read[read_steps.REJECTED], corpora[read_steps.REJECTED]]
        uri = storage.join(job.out, feature_schema.REJECTED, "records.jsonl")
        _ = _together("Counters", counts, lambda all_counts: Counters(all_counts).write(job.out))
        _ = _together(
            "Rejected",
            rejected,
            lambda records: storage.write_bytes(uri, to_json_lines(records)),
        )

        once = begin | "Once" >> beam.Create([None])
        analyse = beam.ParDo(output_files.AnalyseItems(job), table)
        items = once | "Analyse items" >> analyse.with_output_types(pa.RecordBatch)
        analysis = (made[shard_steps.ANALYSIS], items) | "Analysis" >> beam.Flatten()
        return Rows(analysis, examples[shard_steps.EXAMPLES])


def _read(begin: PBegin, job: FeatureJob) -> Any:
    """Reads all files: `RECORDS` by shard of their user, `COUNTS`, `REJECTED`. Small files are read
    together, and large ones part by part.
    """
    groups = begin | "Files" >> beam.Create(event_packs.plan_packs(job), reshuffle=False)
    parts = groups | "Cut" >> beam.FlatMap(event_packs.cut, job.p.source.format)
    # Without a shuffle here, Beam would fuse reading with cutting, and one worker would read all
    # parts of a large file.
    spread = parts | "Spread parts" >> beam.Reshuffle()
    return spread | "Read" >> _tagged(read_steps.Read(job.for_workers()), _READ)


def _count_table(partials: PCollection, p: Pipeline) -> PCollection:
    """(part of the items, partial count table) -> the one count table.

    Each part is added up on its own, so that one worker only has to join the parts.
    """
    # So that there is a table without any event, too.
    nothing = beam.Create([(0, item_counts.empty(p))]).with_output_types(_Sharded)
    merged = beam.MapTuple(lambda _, tables: (0, item_counts.merge(p, tables)))
    joined = beam.MapTuple(lambda _, parts: item_counts.merge(p, parts))
    return (
        (partials, partials.pipeline | "No events" >> nothing)
        | "Count tables" >> beam.Flatten()
        | "By part" >> beam.GroupByKey()
        | "Merge" >> merged.with_output_types(_Sharded)
        | "Parts" >> beam.GroupByKey()
        | "Join" >> joined.with_output_types(pa.RecordBatch)
    )


def _last_held_out(hashes: PCollection, most: int) -> PCollection:
    """(number of a day, smallest sampling hashes of a shard) -> (that, the last held-out hash)."""
    last = beam.MapTuple(lambda day, parts: (day, hashing.last_held_out_hash(parts, most)))
    by_day = hashes | "Hashes by day" >> beam.GroupByKey()
    # Not `int`, which travels as 64 bits with a sign: that has no room for the larger hashes.
    return by_day | "Last hash" >> last.with_output_types(tuple[int, Any])


def _together(
    name: str, parts: list[PCollection], write: Callable[[Iterable[Any]], None]
) -> PCollection:
    """Calls one function with all elements of some collections, if there are any."""
    every = parts | f"{name} of all" >> beam.Flatten() | f"{name} by 0" >> beam.WithKeys(0)
    grouped = every | f"{name} together" >> beam.GroupByKey()
    return grouped | name >> beam.MapTuple(lambda _, elements: write(elements))


def _counting(fn: beam.DoFn, *side_inputs: AsSideInput) -> beam.ParDo:
    return beam.ParDo(fn, *side_inputs).with_output_types(Count)


def _tagged(fn: beam.DoFn, types: dict[str, Any], *side_inputs: AsSideInput) -> beam.PTransform:
    """A ParDo with tagged outputs only, each of a type that Beam knows a coder for."""
    return beam.ParDo(fn, *side_inputs).with_output_types(Any, **types).with_outputs(*types)
