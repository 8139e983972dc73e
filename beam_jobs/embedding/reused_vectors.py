"""Vectors that are known: those of an earlier corpus, by the same tower, of the rows that have not
changed since.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from twinspire_core import storage
from twinspire_core.contracts.model_bundle import VECTOR


class KnownVectors(NamedTuple):
    """Folders of Parquet files.

    Attributes:
      corpus: raw features of the items that were embedded. It may be gone; then all are embedded
        anew.
      vectors: `_item` and its vector.
    """

    corpus: str
    vectors: str


class Compared(NamedTuple):
    """A corpus beside what is known.

    Attributes:
      anew: its rows that have to be embedded.
      reused: `_item`, `vector` of all others.
      new: items that were not there.
      changed: items whose raw features differ.
      withdrawn: items that are there no more.
    """

    anew: pa.Table
    reused: pa.Table
    new: int
    changed: int
    withdrawn: int


def compare(corpus: str, known: KnownVectors, columns: list[str]) -> Compared:
    """Tells the items whose vectors are known from those that are to be embedded.

    Args:
      corpus: folder of the corpus.
      known: what there is.
      columns: raw features that vectors depend on.
    """
    now = _read(corpus, ["_item", *columns])
    before = _read(known.corpus, ["_item", *columns])
    vectors = _read(known.vectors, ["_item", VECTOR])
    row = _rows(now, vectors)
    has_vector = row >= 0
    is_reused = has_vector & _unchanged(now, before, columns)
    is_there = _rows(vectors, now) >= 0
    return Compared(
        anew=now.filter(pa.array(~is_reused)),
        reused=vectors.take(row[is_reused]).combine_chunks(),
        new=int((~has_vector).sum()),
        changed=int((has_vector & ~is_reused).sum()),
        withdrawn=int((~is_there).sum()),
    )


def _unchanged(now: pa.Table, before: pa.Table, columns: list[str]) -> np.ndarray:
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


def _read(folder: str, columns: list[str]) -> pa.Table:
    """All rows below a folder; columns that its files lack are left out, and without files there
    are no rows.
    """
    with tempfile.TemporaryDirectory(prefix="twinspire-known-") as scratch:
        if not storage.list_files(folder):
            return pa.table({"_item": pa.array([], pa.string())})
        found = ds.dataset(storage.localize(folder, Path(scratch)), format="parquet")
        return found.to_table(columns=[name for name in columns if name in found.schema.names])
