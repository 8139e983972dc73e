"""Filters by attributes, as requests and commands give them: which items may be listed.

    {"allow": {"department": ["DELI", "PRODUCE"], "in_stock": true}, "deny": {"brand": "National"}}

An item passes if, of every attribute under `allow`, it has one of the values, and of no attribute
under `deny` any. An attribute that holds a list has all of its entries; a missing value is none.
serving/version/attributes.py applies them to the items of a version.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from twinspire_core.errors import (
    UsageError,
    did_you_mean,
    nearest_names,
    shorten,
    with_full_stop,
)

Values = Mapping[str, Any]
"""Values, or lists of values, by attribute."""


class UnknownAttribute(ValueError):
    """Requests may not filter by an attribute of this name.

    Attributes:
      name: as it was given.
      near: the attribute that looks most like it.
    """

    def __init__(self, name: str, attributes: Sequence[str]) -> None:
        near = nearest_names(name, attributes)
        hint = did_you_mean(name, attributes) or f"known: {', '.join(attributes)}"
        if not attributes:
            hint = (
                "the pipeline file declares none: list columns of the items under corpus.attributes"
            )
        super().__init__(f"names an attribute of items, found {shorten(name)}; {hint}")
        self.name = name
        self.near = near[0] if near else None


class Filter(NamedTuple):
    """What may be listed, as canonical JSON, so that equal filters are equal; None is no
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
          attributes: that requests may filter by, `corpus.attributes`.
          allow: values by attribute.
          deny: values by attribute.

        Raises:
          UsageError: it is not understood.
        """
        conditions: dict[str, str] = {}
        for key, values in (("allow", allow), ("deny", deny)):
            try:
                if values is not None:
                    conditions[key] = condition(attributes, values)
            except ValueError as e:
                raise UsageError(with_full_stop(f"{key} {e}")) from e
        return cls(**conditions)


NO_FILTER = Filter()


class Selected(NamedTuple):
    """What a filter lets through.

    Attributes:
      passing: [N] bool, by row of the corpus.
      warnings: about values that no item has.
    """

    passing: np.ndarray
    warnings: tuple[str, ...]


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
    return Selected(one.passing & other.passing, (*one.warnings, *other.warnings))


def condition(attributes: Sequence[str], value: Any) -> str:
    """Checks what stands under `allow` or `deny` and writes it in one way.

    Args:
      attributes: that requests may filter by, `corpus.attributes`.
      value: an object with a value, or a list of values, by attribute.

    Raises:
      UnknownAttribute: it names another one.
      ValueError: it is something else, or a list is empty.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"is an object with values by attribute, found {shorten(value)}")
    return json.dumps(
        {name: _values(attributes, name, given) for name, given in sorted(value.items())}
    )


def _values(attributes: Sequence[str], name: str, given: Any) -> list[Any]:
    """The distinct values of an attribute, in one order."""
    if name not in attributes:
        raise UnknownAttribute(name, attributes)
    values = given if isinstance(given, list | tuple) else [given]
    if not values:
        raise ValueError(
            f"has at least one value for {name}, found none; leave {name} out for no condition"
        )
    for value in values:
        # NaN is the only value that is not equal to itself.
        if not isinstance(value, str | bool | int | float) or value != value:
            raise ValueError(
                f"holds text, numbers, true or false; found {shorten(value)} for {name}"
            )
    # With its type, for 1 == True.
    distinct = {(type(value).__name__, value): value for value in values}
    return [distinct[key] for key in sorted(distinct)]
