"""Filters by attributes: which items of a version may be listed.

    {"allow": {"department": ["DELI", "PRODUCE"], "in_stock": true}, "deny": {"brand": "National"}}

An item passes if, of every attribute under `allow`, it has one of the values, and of no attribute
under `deny` any. An attribute that holds a list has all of its entries; a missing value is none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.errors import UsageError
from twinspire_core.messages import COMPARED, nearest_names, shorten, with_full_stop

Values = Mapping[str, Any]
"""Values, or lists of values, by attribute."""

_KEPT = 64  # filters whose rows are remembered: a byte per item each
# Values of a filter that no item has, and their characters; the others are counted
_TOLD, _LONGEST = 5, 60
_LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class UnknownAttribute(ValueError):
    """Requests may not filter by an attribute of this name.

    Attributes:
      name: as it was given.
      near: the attribute that looks most like it.
    """

    def __init__(self, name: str, attributes: Sequence[str]) -> None:
        near = nearest_names(name, attributes)
        if not attributes:
            hint = (
                "the pipeline file declares none: list columns of the items under corpus.attributes"
            )
        else:
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(attributes)}"
        super().__init__(f"names an attribute of items, found {shorten(name)}; {hint}")
        self.name, self.near = name, near[0] if near else None


class Filter(NamedTuple):
    """What may be listed, as canonical JSON, so that equal filters are equal; None is no
    condition.
    """

    allow: str | None = None
    deny: str | None = None


class Selected(NamedTuple):
    """What a filter lets through.

    Attributes:
      passing: [N] bool, by row of the catalogue.
      notes: what the asker should know: values that no item has.
    """

    passing: np.ndarray
    notes: tuple[str, ...]


class Groups(NamedTuple):
    """Queries with equal filters.

    Attributes:
      selected: what each of the G filters lets through; None is everything.
      of: [B] int64, each query's.
    """

    selected: tuple[Selected | None, ...]
    of: np.ndarray

    def queries(self) -> Iterator[tuple[np.ndarray, Selected | None]]:
        """The queries of each filter, ascending, and what it lets through."""
        for number, selected in enumerate(self.selected):
            yield np.flatnonzero(self.of == number), selected


def both(one: Selected | None, other: Selected | None) -> Selected | None:
    """What two filters let through; None is everything."""
    if one is None or other is None:
        return one or other
    return Selected(one.passing & other.passing, (*one.notes, *other.notes))


def condition(attributes: Sequence[str], value: Any) -> str:
    """Checks what stands under `allow` or `deny` and writes it in one way.

    Args:
      attributes: that requests may filter by, `corpus.attributes`.
      value: an object with a value, or a list of values, by attribute.

    Raises:
      UnknownAttribute: it names another one. ValueError: it is something else, or a list is empty.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"is an object with values by attribute, found {shorten(value)}")
    return json.dumps(
        {name: _values(attributes, name, given) for name, given in sorted(value.items())}
    )


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


def _values(attributes: Sequence[str], name: str, given: Any) -> list[Any]:
    if name not in attributes:
        raise UnknownAttribute(name, attributes)
    values = given if isinstance(given, list | tuple) else [given]
    if not values:
        raise ValueError(
            f"has at least one value for {name}, found none; leave {name} out for no condition"
        )
    for one in values:
        if not isinstance(one, str | bool | int | float) or one != one:
            raise ValueError(f"holds text, numbers, true or false; found {shorten(one)} for {name}")
    distinct = {(type(one).__name__, one): one for one in values}
    return [distinct[key] for key in sorted(distinct)]


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
            lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
            values, self._row = values.flatten(), np.repeat(self._row, lengths)
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
