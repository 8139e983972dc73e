"""What a column of a sample is good for, by its values and its name; or why it is good for
nothing.
"""

import re
from typing import Any

import polars as pl

CATEGORY_SIZE = 5_000
_OUTCOME = (
    r"(^|_)(ratings?|scores?|prices?|amounts?|values?|quantity|quantities|qty|stars?|reward)(_|$)"
)
_SHOWN = r"title|name|description|headline"
_SEPARATORS = ("|", ";", ",", " ")
_CUT_SHARE = 0.1
"""Of the values that hold the separator, at least, where it separates."""


def snake(column: str) -> str:
    """A column's name as the name of a feature."""
    name = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)).strip("_").lower()
    return name if name[:1].isalpha() else f"c_{name}"


def is_outcome(column: str) -> bool:
    """Whether a column of the events looks like something that is known only after the click."""
    return bool(re.search(_OUTCOME, snake(column)))


def is_shown(column: str) -> bool:
    """Whether a column of items looks like words for people."""
    return bool(re.search(_SHOWN, column, re.I))


def kind(column: str, values: pl.Series) -> dict[str, Any] | str:
    """Keys of a feature that reads the column; or why there is none, in words."""
    present = values.drop_nulls()
    if present.is_empty():
        return "no values in the sample"
    if isinstance(values.dtype, pl.List | pl.Array):
        lengths = present.list.len() if isinstance(values.dtype, pl.List) else present.arr.len()
        fixed = values.dtype.inner.is_float() and lengths.n_unique() == 1
        return {"kind": "vector", "size": int(lengths[0])} if fixed else {"kind": "categories"}
    if values.dtype.is_temporal():
        return 'a time; of items, kind = "age" can count from it'
    if values.dtype.is_nested():
        return "a nested column"
    if present.n_unique() == 1:
        return "one value only in the sample"
    return _scalar(column, values, present)


def _scalar(column: str, values: pl.Series, present: pl.Series) -> dict[str, Any] | str:
    if values.dtype.is_float() or (
        values.dtype.is_integer() and (present.n_unique() > 100 or not is_category(values))
    ):
        return {"kind": "number", "log": bool((present >= 0).all())}
    if values.dtype == pl.String and not is_shown(column) and (separator := _separator(present)):
        return {"kind": "categories", "separator": separator}
    if values.dtype == pl.String and present.n_unique() > min(CATEGORY_SIZE, 0.5 * len(present)):
        return {"kind": "text"}
    if is_category(values):
        return {"kind": "category"}
    return (
        f"{present.n_unique()} values in {len(values)} rows, too many to tell that they are"
        " categories"
    )


def is_category(values: pl.Series) -> bool:
    """Whether the values repeat as those of a category do."""
    if values.dtype.is_float() or values.dtype.is_temporal() or values.dtype.is_nested():
        return False
    return 1 < values.drop_nulls().n_unique() <= min(CATEGORY_SIZE, max(2, len(values) // 20))


def _separator(present: pl.Series) -> str | None:
    """What separates the parts of strings such as `Drama|Crime`, if there are far fewer parts than
    combinations.
    """
    for separator in _SEPARATORS:
        if present.str.contains(separator, literal=True).sum() >= _CUT_SHARE * len(present):
            parts = present.str.split(separator).explode().str.strip_chars()
            few = parts.n_unique() <= min(CATEGORY_SIZE, max(2, len(parts) // 20))
            return separator if few and 2 * parts.n_unique() <= present.n_unique() else None
    return None
