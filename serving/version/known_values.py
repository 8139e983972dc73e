"""The values that a version knows: those of its items' attributes, by which filters select, and those
of category features that its query tower was trained with. Warnings name the values that it lacks.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.version.filters import Filter, Selected, Values, condition
from twinspire_core.config.feature_kinds import CategoriesFeature, CategoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.errors import UsageError
from twinspire_core.messages import COMPARED, nearest_names, shorten, with_full_stop
from twinspire_core.search.ragged import list_lengths, list_rows

_KEPT = 64  # filters whose rows are remembered: a byte per item each
# Values of a filter that no item has, and their characters; the others are counted
_TOLD, _LONGEST = 5, 60
_LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
Unknown = Mapping[int, Sequence[str]]
"""Notes by query."""


def select(
    declared: Sequence[str],
    attributes: "Attributes",
    allow: Values | None = None,
    deny: Values | None = None,
) -> Selected | None:
    """What a filter lets through that is given as an argument; None if there is no condition.

    Args:
      declared: that requests may filter by, `corpus.attributes`.
      attributes: the version's.
      allow: values by attribute.
      deny: values by attribute.

    Raises:
      UsageError: it is not understood.
    """
    given = {key: value for key, value in (("allow", allow), ("deny", deny)) if value is not None}
    wanted = dict[str, str]()
    for key, value in given.items():
        try:
            wanted[key] = condition(declared, value)
        except ValueError as e:
            raise UsageError(with_full_stop(f"{key} {e}")) from e
    try:
        return attributes.select(Filter(**wanted)) if wanted else None
    except ValueError as e:
        raise UsageError(with_full_stop(e)) from e


class Attributes:
    """The attributes of a version's items.

    Args:
      items: the catalogue; attributes are its columns `_attribute_*`.
      version: its id, for messages.
    """

    def __init__(self, items: pa.Table, version: str) -> None:
        self._items = items
        self._version = version
        self._columns: dict[str, _Column] = {}
        self.select = lru_cache(_KEPT)(self._select)

    def _select(self, wanted: Filter) -> Selected:
        """The items that a filter lets through. The latest answers are remembered.

        Raises:
          ValueError: the version has no such attribute, or it is of another type than the values.
        """
        passing, missing = np.ones(len(self._items), bool), list[tuple[str, Any]]()
        for key, text in wanted._asdict().items():
            for name, values in json.loads(text or "{}").items():
                try:
                    has, nowhere = self._column(name).having(values)
                except ValueError as e:
                    raise ValueError(f"{key} {e}") from e
                passing &= has if key == "allow" else ~has
                missing += [(name, value) for value in nowhere]
        passing.flags.writeable = False
        return Selected(passing, tuple(self._notes(missing)))

    def _column(self, name: str) -> "_Column":
        stored = attribute_name(name)
        if stored not in self._items.column_names:
            raise ValueError(
                f"names attributes that the version carries; {self._version} has no {name}: it was"
                " published before corpus.attributes listed it. Publish a version with the present"
                " pipeline file"
            )
        if name not in self._columns:
            self._columns[name] = _Column(name, self._items[stored])
        return self._columns[name]

    def _notes(self, missing: list[tuple[str, Any]]) -> Iterator[str]:
        for place, (name, value) in enumerate(missing[:_TOLD]):
            text = json.dumps(value, ensure_ascii=False)
            text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
            # Looking for the nearest one takes longer than the search itself: once is enough.
            near = self._columns[name].near(value) if place == 0 else None
            hint = f"; did you mean {near!r}?" if near else ""
            yield f"no item of {self._version} has {name} {text}{hint}"
        if len(missing) > _TOLD:
            yield f"nor has any item {len(missing) - _TOLD:,} other values of the filter"


class _Column:
    """One attribute: distinct values, and the items that have them."""

    def __init__(self, name: str, column: pa.ChunkedArray) -> None:
        self._name = name
        values = column.combine_chunks()
        self._rows, self._row = len(values), np.arange(len(values))
        if any(is_list(values.type) for is_list in _LIST_TYPES):
            self._row = list_rows(list_lengths(values))
            values = values.flatten()
        kind = values.type
        if pa.types.is_nested(kind):
            raise ValueError(
                f"goes by attributes that hold text, numbers, true or false; {name} holds {kind}"
            )
        if not (
            pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
        ):
            values = values.cast(pa.string())  # dates and decimals too
        there = values.is_valid().to_numpy(zero_copy_only=False)
        encoded = values.drop_null().dictionary_encode()
        self._row, self._code = self._row[there], encoded.indices.to_numpy()
        self._distinct = encoded.dictionary

    def having(self, values: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """The items that have one of the values, [N] bool, and the values that no item has.

        Raises:
          ValueError: a value is not of the attribute's type.
        """
        kind = self._distinct.type
        codes = pc.index_in(
            pa.array([self._parse(value) for value in values], kind), value_set=self._distinct
        )
        has = np.zeros(self._rows, bool)
        has[self._row[np.isin(self._code, codes.drop_null().to_numpy())]] = True
        return has, [
            value for value, code in zip(values, codes.to_pylist(), strict=True) if code is None
        ]

    def near(self, value: Any) -> str | None:
        """A value like this one."""
        if not pa.types.is_string(self._distinct.type) or len(self._distinct) > COMPARED:
            return None
        return next(iter(nearest_names(str(value), self._distinct.to_pylist())), None)

    def _parse(self, value: Any) -> Any:
        """The value in the attribute's type; None where no item can have it."""
        kind = self._distinct.type
        if pa.types.is_string(kind):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if pa.types.is_boolean(kind):
            return self._truth(value)
        number = self._number(value)
        try:
            if pa.types.is_integer(kind):
                return pa.scalar(int(number), kind).as_py() if number == int(number) else None
            return float(number)
        except (OverflowError, pa.ArrowInvalid):  # beyond the type
            return None

    def _truth(self, value: Any) -> bool:
        truth = {"true": True, "false": False}.get(str(value).lower())
        if truth is None:
            raise ValueError(f"holds true or false for {self._name}, found {shorten(value)}")
        return truth

    def _number(self, value: Any) -> int | float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        for parse in (int, float):
            try:
                if isinstance(value, str) and (number := parse(value)) == number:  # nor is NaN
                    return number
            except ValueError:
                continue
        raise ValueError(f"holds numbers for {self._name}, found {shorten(value)}")


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
            if isinstance(f, CategoryFeature | CategoriesFeature)
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
