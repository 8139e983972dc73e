"""The attributes of a version's items, by which filters select. Warnings name the values that no item
has.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.version.filters import NO_FILTER, Filter, Selected
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.errors import COMPARED, UsageError, nearest_names, shorten, with_full_stop
from twinspire_core.search.ragged import is_list, list_lengths, list_rows

_KEPT = 64  # filters whose rows are remembered: a byte per item each
_NAMED = 5  # values of a filter in a warning; the others are counted
_LONGEST = 60  # characters of a value in a warning


def select(attributes: "Attributes", wanted: Filter) -> Selected | None:
    """What the filter of all requests lets through; None if it has no condition.

    Raises:
      UsageError: as `Attributes.select`.
    """
    if wanted == NO_FILTER:
        return None
    try:
        return attributes.select(wanted)
    except ValueError as e:
        raise UsageError(with_full_stop(e)) from e


class Attributes:
    """The attributes of a version's items.

    Args:
      items: the corpus; attributes are its columns `_attribute_*`.
      version: its id, for messages.
    """

    def __init__(self, items: pa.Table, version: str) -> None:
        self._items = items
        self._version = version
        self._columns: dict[str, _Column] = {}
        self._selected = lru_cache(_KEPT)(self._select)

    def entries(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of an item and one of its values of an attribute, [M] int64 each: rows of the
        corpus, and numbers of values from 0.

        Raises:
          ValueError: the version has no such attribute, or it holds nested values.
        """
        return self._column(name).entries

    def select(self, wanted: Filter) -> Selected:
        """The items that a filter lets through. The latest answers are remembered.

        Raises:
          ValueError: the version has no such attribute, or it is of another type than the values.
        """
        return self._selected(wanted)

    def _select(self, wanted: Filter) -> Selected:
        passing = np.ones(len(self._items), bool)
        missing: list[tuple[str, Any]] = []
        for key, text in wanted._asdict().items():
            for name, values in json.loads(text or "{}").items():
                try:
                    has, nowhere = self._column(name).having(values)
                except ValueError as e:
                    raise ValueError(f"{key} {e}") from e
                passing &= has if key == "allow" else ~has
                missing += [(name, value) for value in nowhere]
        # Whoever asks again gets the same array.
        passing.flags.writeable = False
        return Selected(passing, tuple(self._warnings(missing)))

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

    def _warnings(self, missing: list[tuple[str, Any]]) -> Iterator[str]:
        for place, (name, value) in enumerate(missing[:_NAMED]):
            text = json.dumps(value, ensure_ascii=False)
            if len(text) > _LONGEST:
                text = text[:_LONGEST] + "…"
            # Looking for the nearest one takes longer than the search itself: once is enough.
            near = self._columns[name].near(value) if place == 0 else None
            hint = f"; did you mean {near!r}?" if near else ""
            yield f"no item of {self._version} has {name} {text}{hint}"
        if len(missing) > _NAMED:
            yield f"nor has any item {len(missing) - _NAMED:,} other values of the filter"


class _Column:
    """One attribute: distinct values, and the items that have them."""

    def __init__(self, name: str, column: pa.ChunkedArray) -> None:
        self._name = name
        values = column.combine_chunks()
        self._items = len(values)
        # Of each entry, as a list has several: the item, and the number of its value.
        self._item = np.arange(len(values))
        if is_list(values.type):
            self._item = list_rows(list_lengths(values))
            values = values.flatten()
        if pa.types.is_nested(values.type):
            raise ValueError(
                f"needs attributes that hold text, numbers, true or false; {name} holds"
                f" {values.type}"
            )
        if not (pa.types.is_boolean(values.type) or _is_number(values.type)):
            values = values.cast(pa.string())  # dates and decimals too
        there = values.is_valid().to_numpy(zero_copy_only=False)
        encoded = values.drop_null().dictionary_encode()
        self._item = self._item[there]
        self._value = encoded.indices.to_numpy()
        self._distinct = encoded.dictionary

    @property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of an item and the number of one of its values, [M] int64 each."""
        return self._item, self._value.astype(np.int64)

    def having(self, values: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """The items that have one of the values, [N] bool, and the values that no item has.

        Raises:
          ValueError: a value is not of the attribute's type.
        """
        parsed = pa.array([self._parse(value) for value in values], self._distinct.type)
        numbers = pc.index_in(parsed, value_set=self._distinct)
        has = np.zeros(self._items, bool)
        has[self._item[np.isin(self._value, numbers.drop_null().to_numpy())]] = True
        nowhere = [
            value
            for value, number in zip(values, numbers.to_pylist(), strict=True)
            if number is None
        ]
        return has, nowhere

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
            return self._parse_truth(value)
        number = self._parse_number(value)
        try:
            if not pa.types.is_integer(kind):
                return float(number)
            if number != int(number):
                return None
            return pa.scalar(int(number), kind).as_py()
        except (OverflowError, pa.ArrowInvalid):  # beyond the type
            return None

    def _parse_truth(self, value: Any) -> bool:
        truth = {"true": True, "false": False}.get(str(value).lower())
        if truth is None:
            raise ValueError(f"holds true or false for {self._name}, found {shorten(value)}")
        return truth

    def _parse_number(self, value: Any) -> int | float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            for parse in (int, float):
                try:
                    number = parse(value)
                except ValueError:
                    continue
                is_nan = number != number
                if not is_nan:
                    return number
        raise ValueError(f"holds numbers for {self._name}, found {shorten(value)}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
