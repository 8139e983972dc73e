"""Filters by attributes: how requests and commands write them, and which items pass.

    {"allow": {"department": ["DELI", "PRODUCE"], "in_stock": true}, "deny": {"brand": "National"}}

An item passes if it has one of the values of each attribute under `allow`, and none of the values under
`deny`. If an item's attribute is a list, it has each of the list's entries. A missing value equals no value.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.errors import (
    COMPARED,
    UsageError,
    did_you_mean,
    nearest_names,
    shorten,
    with_full_stop,
)
from twinspire_core.search.ragged import is_list, list_lengths, list_rows

_CACHED = 64  # filters whose passing items are kept in memory, at a byte an item
_NAMED = 5  # values of a filter that warnings name; the others are counted
_LONGEST = 60  # characters of a value in a warning

Values = Mapping[str, Any]
"""Values, or lists of values, by attribute."""


class WrongFilter(ValueError):
    """The value of `allow` or `deny` is not a filter. The message continues after this key.

    Attributes:
      attribute: what the filter names, if `corpus.attributes` does not list it.
      near: the listed attribute that looks most like it.
    """

    def __init__(self, message: str, attribute: str | None = None, near: str | None = None) -> None:
        super().__init__(message)
        self.attribute = attribute
        self.near = near


class Filter(NamedTuple):
    """A filter as canonical JSON, so that filters with the same meaning are equal. None is no
    condition.
    """

    allow: str | None = None
    deny: str | None = None

    @classmethod
    def of(
        cls, attributes: Sequence[str], allow: Values | None = None, deny: Values | None = None
    ) -> Self:
        """The filter of a command.

        Args:
          attributes: names that filters may use, `corpus.attributes`.

        Raises:
          UsageError: an attribute is unknown, or a value is of a wrong type.
        """
        conditions: dict[str, str] = {}
        for key, values in (("allow", allow), ("deny", deny)):
            try:
                if values is not None:
                    conditions[key] = condition(attributes, values)
            except WrongFilter as e:
                raise UsageError(with_full_stop(f"{key} {e}")) from e
        return cls(**conditions)


NO_FILTER = Filter()


def condition(attributes: Sequence[str], values: Values) -> str:
    """The canonical JSON of the value of `allow` or `deny`.

    Args:
      attributes: names that filters may use, `corpus.attributes`.

    Raises:
      WrongFilter: an attribute is not listed, or a value is of a wrong type.
    """
    return json.dumps(
        {name: _distinct(attributes, name, given) for name, given in sorted(values.items())}
    )


def _distinct(attributes: Sequence[str], name: str, given: Any) -> list[Any]:
    """The distinct values for an attribute, sorted."""
    if name not in attributes:
        hint = did_you_mean(name, attributes) or f"known: {', '.join(attributes)}"
        if not attributes:
            hint = "the pipeline file has none. Name columns of the items in corpus.attributes"
        near = next(iter(nearest_names(name, attributes)), None)
        message = f"must name attributes of items; found {shorten(name)}; {hint}"
        raise WrongFilter(message, name, near)
    values = given if isinstance(given, list | tuple) else [given]
    if not values:
        raise WrongFilter(
            f"must have at least one value for {name}; found none. Give one, or leave {name} out"
        )
    for value in values:
        # NaN is the only value that is not equal to itself.
        if not isinstance(value, str | bool | int | float) or value != value:
            raise WrongFilter(
                f"must have strings, numbers, true or false; found {shorten(value)} for {name}"
            )
    # The type is part of the key, because 1 == True in Python.
    distinct = {(type(value).__name__, value): value for value in values}
    return [distinct[key] for key in sorted(distinct)]


class Selected(NamedTuple):
    """The items that pass a filter.

    Attributes:
      passing: [N] bool, by row of the corpus.
      warnings: about values of the filter that no item has.
    """

    passing: np.ndarray
    warnings: tuple[str, ...]


class Groups(NamedTuple):
    """Queries grouped by equal filters.

    Attributes:
      selected: items that pass each of the G filters; None where all pass.
      of: [B] int64, the group of each query.
    """

    selected: tuple[Selected | None, ...]
    of: np.ndarray

    def queries(self) -> Iterator[tuple[np.ndarray, Selected | None]]:
        """Yields the queries of each group, ascending, and the items that pass."""
        for number, selected in enumerate(self.selected):
            yield np.flatnonzero(self.of == number), selected


class Attributes:
    """The attributes of a version's items.

    Args:
      items: the corpus, N rows; attributes are its columns `_attribute_*`.
      version: id of the version, which messages name.
    """

    def __init__(self, items: pa.Table, version: str) -> None:
        self._items = items
        self._version = version
        self._columns: dict[str, _Column] = {}
        self._selected = lru_cache(_CACHED)(self._select)

    def entries(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The values of an attribute as pairs, [M] int64 each: row of the item, number of the value
        from 0.

        Raises:
          ValueError: the version has no such attribute, or it holds nested values.
        """
        return self._column(name).entries

    def select(self, wanted: Filter) -> Selected | None:
        """The items that pass a filter; None if it has no condition. Answers to the latest filters are
        cached.

        Raises:
          UsageError: the version has no such attribute, or it is of another type than the values.
        """
        return None if wanted == NO_FILTER else self._selected(wanted)

    def _select(self, wanted: Filter) -> Selected:
        passing = np.ones(len(self._items), bool)
        missing: list[tuple[str, Any]] = []
        for key, text in wanted._asdict().items():
            for name, values in json.loads(text or "{}").items():
                try:
                    has, nowhere = self._column(name).having(values)
                except ValueError as e:
                    raise UsageError(with_full_stop(f"{key} {e}")) from e
                passing &= has if key == "allow" else ~has
                missing += [(name, value) for value in nowhere]
        # Read-only, because the cache gives the same array to every caller.
        passing.flags.writeable = False
        return Selected(passing, tuple(self._warnings(missing)))

    def _column(self, name: str) -> "_Column":
        stored = attribute_name(name)
        if stored not in self._items.column_names:
            raise ValueError(
                f"names {name}, which {self._version} does not have. The version was published before"
                f" corpus.attributes named it. Publish a version with the current pipeline file"
            )
        if name not in self._columns:
            self._columns[name] = _Column(name, self._items[stored])
        return self._columns[name]

    def _warnings(self, missing: list[tuple[str, Any]]) -> Iterator[str]:
        for number, (name, value) in enumerate(missing[:_NAMED]):
            text = json.dumps(value, ensure_ascii=False)
            if len(text) > _LONGEST:
                text = text[:_LONGEST] + "…"
            # Only for the first value: finding the nearest name takes longer than the search itself.
            near = self._columns[name].near(value) if number == 0 else None
            hint = f"; did you mean {near!r}?" if near else ""
            yield f"no item of {self._version} has {name} {text}{hint}"
        if len(missing) > _NAMED:
            yield f"nor has any item {len(missing) - _NAMED:,} other values of the filter"


class _Column:
    """One attribute as an inverted list: distinct values, and the items that have them."""

    def __init__(self, name: str, column: pa.ChunkedArray) -> None:
        self._name = name
        values = column.combine_chunks()
        self._items = len(values)
        # Each entry has the row of its item and the number of its value. An item with a list has several.
        self._item = np.arange(len(values))
        if is_list(values.type):
            self._item = list_rows(list_lengths(values))
            values = values.flatten()
        if pa.types.is_nested(values.type):
            raise ValueError(
                f"can only use attributes with strings, numbers, true or false; {name} has the type"
                f" {values.type}"
            )
        compared = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
        if not any(is_kind(values.type) for is_kind in compared):
            # JSON has no dates, and its numbers are doubles: dates and decimals are compared as text.
            values = values.cast(pa.string())
        has_value = values.is_valid().to_numpy(zero_copy_only=False)
        # Numbers instead of values, so that a filter compares integers.
        encoded = values.drop_null().dictionary_encode()
        self._item = self._item[has_value]
        self._value = encoded.indices.to_numpy()
        self._distinct = encoded.dictionary

    @property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        return self._item, self._value.astype(np.int64)

    def having(self, values: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """The items that have one of the values, [N] bool, and the values that no item has.

        Raises:
          ValueError: a value is not of the attribute's type.
        """
        # A value that no item can have becomes null, which is found nowhere.
        parsed = pa.array([self._parse(value) for value in values], self._distinct.type)
        numbers = pc.index_in(parsed, value_set=self._distinct)
        has = np.zeros(self._items, bool)
        has[self._item[np.isin(self._value, numbers.drop_null().to_numpy())]] = True
        pairs = zip(values, numbers.to_pylist(), strict=True)
        return has, [value for value, number in pairs if number is None]

    def near(self, value: Any) -> str | None:
        """The attribute's value that looks most like this one."""
        if not pa.types.is_string(self._distinct.type) or len(self._distinct) > COMPARED:
            return None
        return next(iter(nearest_names(str(value), self._distinct.to_pylist())), None)

    def _parse(self, value: Any) -> Any:
        """The value in the attribute's type; None where no item can have it."""
        kind = self._distinct.type
        if pa.types.is_string(kind):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if pa.types.is_boolean(kind):
            truth = {"true": True, "false": False}.get(str(value).lower())
            if truth is None:
                raise ValueError(
                    f"must have true or false for {self._name}; found {shorten(value)}"
                )
            return truth
        number = self._parse_number(value)
        try:
            if not pa.types.is_integer(kind):
                return float(number)
            return pa.scalar(int(number), kind).as_py() if number == int(number) else None
        except (OverflowError, pa.ArrowInvalid):  # the number does not fit the column's type
            return None

    def _parse_number(self, value: Any) -> int | float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        for parse in (int, float) if isinstance(value, str) else ():
            with suppress(ValueError):
                number = parse(value)
                if number == number:  # not NaN, which equals no value
                    return number
        raise ValueError(f"must have numbers for {self._name}; found {shorten(value)}")
