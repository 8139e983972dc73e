"""Values of category features that a version was trained without: its query tower takes all of them
for the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.config.pipeline import Pipeline
from twinspire_core.messages import shorten

_TOLD = 5  # values in a note
Unknown = Mapping[int, Sequence[str]]
"""Notes by query."""


class Vocabularies:
    """The values that the query tower tells apart, of its features of kind `category` and
    `categories`.

    Args:
      pipeline: whose.
      tower: folder of the query tower, which has a file with a value per line for each; hashed
        features have none.
      version: its id, for notes.
    """

    def __init__(self, pipeline: Pipeline, tower: Path, version: str) -> None:
        names = [
            name
            for name, f in pipeline.tower("query").items()
            if f.kind in ("category", "categories")
        ]
        places = {name: tower / "assets" / name for name in names}
        lines = {
            name: place.read_bytes().decode().split("\n")
            for name, place in places.items()
            if place.is_file()
        }
        # "" is missing
        self._known = {name: dict.fromkeys(["", *values]) for name, values in lines.items()}
        self._version = version

    def unknown(self, requests: pa.Table) -> Unknown:
        """What is to be said of values that the tower does not know.

        Args:
          requests: [B] rows of `Requests.table`, as they came.
        """
        notes = defaultdict[int, list[str]](list)
        for name, known in self._known.items():
            column = requests[name].combine_chunks()
            listed = pa.types.is_list(column.type)
            values = pc.list_flatten(column) if listed else column
            unknown = {
                value
                for value in pc.unique(values).to_pylist()
                if value is not None and value not in known
            }
            if not unknown:
                continue
            rows = pc.list_parent_indices(column).to_pylist() if listed else range(len(column))
            of = defaultdict[int, dict[str, None]](dict)
            for row, value in zip(rows, values.to_pylist(), strict=True):
                if value in unknown:
                    of[row][value] = None
            for row, found in of.items():
                notes[row].append(
                    f"{self._version} was trained without {name} {_few(found)}; with {_few(known)}"
                )
        return notes


def _few(values: Mapping[str, None]) -> str:
    told = [shorten(value) for value in islice(filter(None, values), _TOLD + 1)]
    return ", ".join(told[:_TOLD]) + (", …" if len(told) > _TOLD else "")
