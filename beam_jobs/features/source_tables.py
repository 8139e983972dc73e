"""The tables of candidate sources that are fitted on users' sequences, as of the moments of a day.

The job writes the sequences, by shard. A fit needs those of all users together, and is done after
the job by the process that started it: what it reads and holds is bounded by each source.
"""

import pyarrow as pa

from beam_jobs.beam import batches
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.sources.registry import fits_of
from twinspire_core.sources.sequences import Sequences
from twinspire_core.storage import parquet_files
from twinspire_core.terminal import console


def write_source_tables(job: FeatureJob) -> None:
    """Fits what the pipeline's sources need, and writes it to `NAME/start`, `NAME/end` and the folders of
    replayed days.
    """
    fits = fits_of(job.p.sources.use)
    if not fits:
        return
    plan = job.plan
    for moment in plan.table_days:
        folder = storage.join(job.out, plan.folder(feature_schema.SEQUENCES, moment))
        if not storage.list_files(folder):
            continue  # nobody has any event
        # By name of the file: the same order on every run.
        events = parquet_files.read_folder(folder)
        corpus = storage.join(job.out, plan.folder(feature_schema.CORPUS, moment))
        rows = parquet_files.read_folder(corpus, ["_item"])
        items = rows.sort_by("_item")["_item"].combine_chunks()
        sequences = Sequences.of(events, items)
        for name, fit in fits.items():
            console.print(f"features {plan.day}: fitting {name} as of the start of {moment}")
            table = fit(sequences, items)
            _write(storage.join(job.out, plan.folder(name, moment), "00000.parquet"), table)


def _write(place: str, table: pa.Table) -> None:
    whole = table.combine_chunks().to_batches()
    if not whole:
        whole = [pa.RecordBatch.from_pylist([], schema=table.schema)]
    storage.write_bytes(place, batches.parquet(whole))
