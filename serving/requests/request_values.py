"""Values of requests: from JSON to what a column holds, or the end of a sentence that says why
not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from twinspire_core.config.feature_kinds import (
    CategoriesFeature,
    Feature,
    NumberFeature,
    TimeFeature,
    VectorFeature,
)
from twinspire_core.messages import shorten

LARGEST = float(np.finfo(np.float32).max)
Parse = Callable[[Any], Any]


class OutOfRange(ValueError):
    """A value of the right type that is too small, too large or not finite."""


def most(column: str) -> int:
    """The largest value of a column of a time."""
    return 23 if column.endswith("_hour") else 6


def parser(f: Feature, column: str) -> Parse:
    """What makes a column's value out of JSON; it raises ValueError or OutOfRange with the end of a
    sentence.
    """
    match f:
        case TimeFeature():
            return lambda value: _whole(value, most(column))
        case NumberFeature():
            return _number
        case CategoriesFeature(separator=separator):
            return lambda value: _split_texts(value, separator)
        case VectorFeature(size=size):
            return lambda value: _vector(value, size)
        case _:
            return text


def text(value: Any) -> str:
    """A text, also of an id that is written as a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if _is_whole(value):
        return str(int(value))
    raise ValueError(f"is text, found {shorten(value)}")


def texts(value: Any) -> list[str]:
    """A list of texts."""
    if not isinstance(value, list):
        raise ValueError(f"is a list of text, found {shorten(value)}")
    return value if all(type(one) is str for one in value) else [text(one) for one in value]


def _split_texts(value: Any, separator: str | None) -> list[str]:
    """A list of texts, also of one text that is cut at a separator."""
    if separator and isinstance(value, str):
        return texts(value.split(separator))
    return texts(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is a number, found {shorten(value)}")
    if not abs(value) <= LARGEST:  # nor is NaN
        raise OutOfRange(f"is a finite number, found {shorten(value)}")
    return float(value)


def _whole(value: Any, largest: int) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or _is_whole(value)):
        raise ValueError(f"is a whole number from 0 to {largest}, found {shorten(value)}")
    if not 0 <= value <= largest:
        raise OutOfRange(f"is a whole number from 0 to {largest}, found {shorten(value)}")
    return int(value)


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number written as 7.0: JSON knows no difference."""
    return isinstance(value, float) and -(2**63) <= value < 2**64 and value.is_integer()


def _vector(value: Any, size: int) -> list[float]:
    if not isinstance(value, list) or len(value) != size:
        raise ValueError(f"is a list of {size} numbers, found {shorten(value)}")
    return [_number(one) for one in value]
