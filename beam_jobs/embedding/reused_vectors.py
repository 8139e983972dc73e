"""Vectors that are known: those of an earlier corpus, by the same tower, of the rows that have not
changed since.

Corpus and what is known are compared range by range of ids, each by whoever works on it, so nobody
reads the whole catalogue.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput

from beam_jobs.beam import written_rows
from beam_jobs.beam.written_rows import WriteRows
from beam_jobs.embedding.id_ranges import IdFile, IdRange, id_files, rows_between
from beam_jobs.embedding.tower_calls import Batch, batches_of, write_plain
from twinspire_core import storage
from twinspire_core.contracts.embedded_vectors import ITEMS
from twinspire_core.contracts.model_bundle import VECTOR
from twinspire_core.storage.parquet_files import list_parquet

CHANGES = "changes.json"
"""Where the job's counts of what became of items wait, below the stage's output, until it has ended."""

# Tags: batches of rows that have to be embedded; (what became of items, how many).
_TO_EMBED = "to_embed"
_COUNTS = "counts"


class KnownVectors(NamedTuple):
    """Folders of Parquet files.

    Attributes:
      corpus: raw features of the items that were embedded. It may be gone; then all are embedded
        again.
      vectors: `_item` and its vector.
    """

    corpus: str
    vectors: str


class ComparedCorpus(NamedTuple):
    """A corpus, or a range of it, beside what is known.

    Attributes:
      to_embed: its rows that have to be embedded.
      reused: `_item`, `vector` of all others.
      new: items that were not there.
      changed: items whose raw features differ.
      withdrawn: items that are there no more.
    """

    to_embed: pa.Table
    reused: pa.Table
    new: int
    changed: int
    withdrawn: int


class KeepKnown(beam.PTransform):
    """Ranges of ids -> batches of the rows that have to be embedded; writes the vectors of the others,
    and `CHANGES`.
    """

    def __init__(self, compare: "CompareRange", out: str) -> None:
        """Says what is compared, and the URI of the stage's output."""
        super().__init__()
        self._compare = compare
        self._out = out

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:
        """Wires the steps."""
        types = {_TO_EMBED: Batch, _COUNTS: tuple[str, int]}
        compared = beam.ParDo(self._compare).with_output_types(Any, **types)
        found = ranges | "Compare" >> compared.with_outputs(*types)
        _ = found[_COUNTS] | "Changes" >> WriteRows(self._out, CHANGES)
        return found[_TO_EMBED]


def take_changes(out: str) -> dict[str, int]:
    """What became of the items, which the job counted; removes its file.

    Returns: items that are `new`, `changed`, `withdrawn`, and those whose vectors are `reused`.
    """
    counts = written_rows.take(out, CHANGES)
    return {what: counts.get(what, 0) for what in ("new", "changed", "withdrawn", "reused")}


class CompareRange(beam.DoFn):
    """Range of ids -> `_TO_EMBED` and `_COUNTS`; writes its known vectors into a file."""

    def __init__(
        self,
        corpus: Sequence[IdFile],
        known: KnownVectors,
        columns: Sequence[str],
        batch_rows: int,
        out: str,
    ) -> None:
        """Lists the files of what is known, and which ids they hold.

        Args:
          corpus: files of the corpus.
          known: what there is.
          columns: raw features that vectors depend on.
          batch_rows: rows of a batch, at the most.
          out: URI of the stage's output.
        """
        super().__init__()
        self._corpus = list(corpus)
        self._before = id_files(list_parquet(known.corpus))
        self._vectors = id_files(list_parquet(known.vectors))
        self._columns = list(columns)
        self._batch_rows = batch_rows
        self._out = out

    def process(self, id_range: IdRange) -> Iterator[Any]:
        """Compares a range."""
        now = rows_between(self._corpus, id_range, self._columns)
        before = rows_between(self._before, id_range, self._columns)
        vectors = rows_between(self._vectors, id_range, [VECTOR])
        found = compare(now, before, vectors, self._columns)
        if len(found.reused):
            # A bundle that is tried again writes the same bytes under the same name.
            place = storage.join(self._out, ITEMS, f"reused-{id_range.number:05d}.parquet")
            write_plain(place, found.reused)
        for what in ("new", "changed", "withdrawn"):
            yield TaggedOutput(_COUNTS, (what, getattr(found, what)))
        yield TaggedOutput(_COUNTS, ("reused", len(found.reused)))
        for batch in batches_of(found.to_embed, id_range.number, self._batch_rows):
            yield TaggedOutput(_TO_EMBED, batch)


def compare(
    now: pa.Table, before: pa.Table, vectors: pa.Table, columns: Sequence[str]
) -> ComparedCorpus:
    """Tells the items whose vectors are known from those that are to be embedded.

    Args:
      now: the corpus: `_item`, and raw features.
      before: the one whose vectors are known.
      vectors: `_item`, `vector`.
      columns: raw features that vectors depend on.
    """
    row = _rows(now, vectors)
    has_vector = row >= 0
    is_reused = has_vector & _unchanged(now, before, columns)
    is_there = _rows(vectors, now) >= 0
    return ComparedCorpus(
        to_embed=now.filter(pa.array(~is_reused)),
        reused=vectors.take(row[is_reused]).combine_chunks(),
        new=int((~has_vector).sum()),
        changed=int((has_vector & ~is_reused).sum()),
        withdrawn=int((~is_there).sum()),
    )


def _unchanged(now: pa.Table, before: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Which rows of a corpus have the same raw features in an earlier one, [N] bool."""
    row = _rows(now, before)
    # Features have come or gone since then: no known vector is of these.
    if set(before.column_names) != set(now.column_names):
        return np.zeros(len(row), bool)
    same = row >= 0
    # Column by column, of the rows that were the same so far.
    for name in columns:
        new = pl.Series(pl.from_arrow(now[name].filter(same)))
        old = pl.Series(pl.from_arrow(before[name].take(row[same])))
        if new.dtype == old.dtype:
            same[same] = new.eq_missing(old).to_numpy()
        else:
            same[same] = False
    return same


def _rows(items: pa.Table, among: pa.Table) -> np.ndarray:
    """Rows of the items in another table, [N] int64; -1 where it has none."""
    if not len(among):
        return np.full(len(items), -1)
    found = pc.index_in(items["_item"].combine_chunks(), among["_item"].combine_chunks())
    rows: np.ndarray = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows
