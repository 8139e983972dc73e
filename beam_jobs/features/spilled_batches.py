"""Large batches go through a shuffle by file: they wait in a scratch folder, and a note of the file
travels for them.

Beam's own runner keeps a whole shuffle in memory, unpacked, so that the histories of a day of ten
million events would not fit. A bundle that is tried again writes files of new names, which its own
notes name; the others are never read.
"""

import secrets

import pyarrow as pa

from beam_jobs.beam.batches import LARGE, BatchCoder
from twinspire_core import storage

FOLDER = "scratch"
"""Where the files wait, below the stage's output, until the job has ended."""
_NOTE = pa.schema([("_file", pa.string())])


def sent(batch: pa.RecordBatch, out: str) -> pa.RecordBatch:
    """What travels for a batch: itself, or a note of where it is.

    Args:
      batch: any.
      out: URI of the stage's output, a place that all workers share.
    """
    if batch.nbytes <= LARGE:
        return batch
    place = storage.join(out, FOLDER, f"{secrets.token_hex(16)}.arrow")
    storage.write_bytes(place, BatchCoder().encode(batch))
    return pa.RecordBatch.from_arrays([pa.array([place])], schema=_NOTE)


def received(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch that `sent` was given."""
    if batch.schema != _NOTE:
        return batch
    return BatchCoder().decode(storage.read_bytes(batch["_file"][0].as_py()))


def clear(out: str) -> None:
    """Removes what was sent, once nobody is to receive it any more."""
    storage.delete_tree(storage.join(out, FOLDER))
