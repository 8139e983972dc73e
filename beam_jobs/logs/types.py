"""Which columns of a CSV are numbers: those that hold nothing else, as far as numbers can say what the text said."""

import polars as pl
import pyarrow as pa

_INTEGER = r"^(?:0|-?[1-9]\d{0,17})$"
_DECIMAL = r"^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,3})?$"
_MAX_DIGITS = 15  # what a double holds for sure


class TextNumbers:
    """Looks at all values of text columns, table by table.

    `007` is text, as is a whole number that 64 bits cannot hold; `1.50` becomes 1.5.
    """

    def __init__(self, keep: tuple[str, ...] = ()) -> None:
        """Args: keep: columns that stay text whatever they hold."""
        self._keep = set(keep)
        self._types: dict[str, set[str]] = {}

    def see(self, table: pa.Table) -> None:
        """Takes note of a table's values."""
        for name in table.column_names:
            found = self._types.setdefault(name, set())
            if "text" in found:
                continue
            if name in self._keep or not pa.types.is_string(table.schema.field(name).type):
                found.add("text")
                continue
            found |= _kinds(pl.Series("v", table[name]))

    def types(self) -> dict[str, pa.DataType]:
        """Columns that are numbers."""
        return {name: kind for name, kinds in self._types.items() if (kind := _number_type(kinds)) is not None}


def _kinds(values: pl.Series) -> set[str]:
    """Of the kinds integer, long integer, decimal and text, those that occur. Nulls are of no kind."""
    value = pl.col("v")
    digits = value.str.replace(r"[eE].*", "").str.count_matches(r"\d")
    integer = value.str.contains(_INTEGER)
    decimal = value.str.contains(_DECIMAL) & (digits <= _MAX_DIGITS) & ~integer
    occurs = values.to_frame("v").select(
        integer=integer.any(),
        long=(integer & (digits > _MAX_DIGITS)).any(),
        decimal=decimal.any(),
        text=(~integer & ~decimal).any(),
    )
    return {kind for kind, any_such in occurs.row(0, named=True).items() if any_such}


def _number_type(kinds: set[str]) -> pa.DataType | None:
    if not kinds or "text" in kinds or {"long", "decimal"} <= kinds:
        return None
    return pa.float64() if "decimal" in kinds else pa.int64()
