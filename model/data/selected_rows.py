"""Tables of which a few rows are wanted whole: which ones is told by narrow columns, and only then
the others are read.

A day of millions of users has millions of histories, of which ten thousand are asked about.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

_ROW = "_row"


class SelectedRows:
    """The Parquet files of a folder.

    Attributes:
      narrow: the columns by which rows are chosen, of all rows, and their number, `_row`.
    """

    def __init__(
        self, folder: Path, narrow: Sequence[str], columns: Sequence[str], none: pa.Table
    ) -> None:
        """Reads the narrow columns.

        Args:
          folder: it may not be there.
          narrow: columns to choose by.
          columns: columns of the rows that are chosen.
          none: what a folder without files holds.
        """
        self._files, self._columns = sorted(folder.glob("*.parquet")), list(columns)
        self._none = none.select(self._columns)
        dataset = (
            ds.dataset([str(file) for file in self._files], format="parquet")
            if self._files
            else None
        )
        found = dataset.to_table(columns=list(narrow)) if dataset else none.select(list(narrow))
        self.narrow = found.append_column(_ROW, pa.array(np.arange(found.num_rows)))

    def whole(self, chosen: pa.Table) -> pa.Table:
        """Rows of `narrow`, in its order, with all columns."""
        rows, first, found = chosen.column(_ROW).to_numpy(), 0, [self._none]
        for path in self._files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    inside = rows[
                        np.searchsorted(rows, first) : np.searchsorted(rows, first + size)
                    ]
                    if len(inside):
                        part = file.read_row_group(group, self._columns).select(self._columns)
                        found.append(part.take(pa.array(inside - first)))
                    first += size
        return pa.concat_tables(found, promote_options="default")
