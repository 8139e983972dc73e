"""The vocabularies that a version's query tower was trained with, and warnings about other values."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config.feature_kinds import CategoriesFeature, CategoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import shorten
from twinspire_core.search.ragged import list_lengths, list_rows

_NAMED = 5  # values that a warning names
Unknown = Mapping[int, Sequence[str]]
"""Warnings by the number of the query, for queries with unknown values."""


class Vocabularies:
    """The vocabularies of the query tower's features of kind `category` and `categories`. To the
    tower, all other values are one and the same.

    Args:
      tower: folder of the query tower. It has a file for each of these features, a value per line;
        hashed features have no file.
      version: id of the version, which warnings name.
    """

    def __init__(self, pipeline: Pipeline, tower: Path, version: str) -> None:
        self._version = version
        self._known: dict[str, dict[str, None]] = {}
        for name, f in pipeline.tower("query").items():
            file = tower / "assets" / name
            if isinstance(f, CategoryFeature | CategoriesFeature) and file.is_file():
                lines = file.read_bytes().decode().split("\n")
                self._known[name] = dict.fromkeys(["", *lines])  # "" is a missing value

    def unknown(self, requests: pa.Table) -> Unknown:
        """Warnings about values that are in no vocabulary.

        Args:
          requests: [B] rows of `Requests.table`, before stored users fill in what is missing.
        """
        warnings: dict[int, list[str]] = {}
        for name, known in self._known.items():
            for row, values in _unknown_values(requests[name].combine_chunks(), known).items():
                warnings.setdefault(row, []).append(
                    f"{self._version} was trained without {name} {_few(values)}; with {_few(known)}"
                )
        return warnings


def _unknown_values(column: pa.Array, known: Mapping[str, None]) -> dict[int, dict[str, None]]:
    """The distinct unknown values of each row that has any."""
    if pa.types.is_list(column.type):
        values = column.flatten()
        rows = list_rows(list_lengths(column))
    else:
        values = column
        rows = np.arange(len(column))
    unknown = {
        value for value in pc.unique(values).to_pylist() if value is not None and value not in known
    }
    # Nearly every batch ends here, before its values become Python objects one by one.
    if not unknown:
        return {}
    of_row: dict[int, dict[str, None]] = {}
    for row, value in zip(rows.tolist(), values.to_pylist(), strict=True):
        if value in unknown:
            of_row.setdefault(row, {})[value] = None
    return of_row


def _few(values: Mapping[str, None]) -> str:
    first = [shorten(value) for value in islice(filter(None, values), _NAMED + 1)]
    text = ", ".join(first[:_NAMED])
    return f"{text}, …" if len(first) > _NAMED else text
