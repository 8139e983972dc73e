"""Types that all files' values fit: of a CSV's text, numbers where a column holds nothing else; of
all files, one; of what is nested, those of its fields.
"""

from collections.abc import Collection
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.ingest.column_values import as_string
from twinspire_core.errors import BadData

_INTEGER = r"^(?:0|-?[1-9]\d{0,17})$"
_WHOLE = r"^(?:0|-?[1-9]\d{0,14})\.0$"
_DECIMAL = r"^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,3})?$"
_MAX_DIGITS = 15  # what a double holds for sure


def flat(table: pa.Table) -> pa.Table:
    """The table with a column for each field of a nested one, `user.id` and `user.country` for
    `user`: no stage reads what is inside a column.
    """
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


class TextNumbers:
    """Tells which text columns are numbers, as far as numbers can say what the text said; sees
    table by table.

    `007` is text, as is a whole number that 64 bits cannot hold; `1.50` becomes 1.5. Where all are
    whole, `17850.0` becomes 17850: integers that pandas made room for nulls in.
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
        types = {name: _number_type(kinds) for name, kinds in self._types.items()}
        return {name: kind for name, kind in types.items() if kind is not None}


def with_numbers(table: pa.Table) -> pa.Table:
    """A table of text, with numbers in the columns that hold nothing else."""
    numbers = TextNumbers()
    numbers.see(table)
    types = numbers.types()
    fields = [field.with_type(types.get(field.name, field.type)) for field in table.schema]
    return conform(table, pa.schema(fields))


def _kinds(values: pl.Series) -> set[str]:
    """Of the kinds integer, long integer, whole, decimal and text, those that occur. Nulls are of
    no kind.
    """
    value = pl.col("v")
    digits = value.str.replace(r"[eE].*", "").str.count_matches(r"\d")
    integer = value.str.contains(_INTEGER)
    whole = value.str.contains(_WHOLE)
    decimal = value.str.contains(_DECIMAL) & (digits <= _MAX_DIGITS) & ~integer & ~whole
    occurs = values.to_frame("v").select(
        integer=integer.any(),
        long=(integer & (digits > _MAX_DIGITS)).any(),
        whole=whole.any(),
        decimal=decimal.any(),
        text=(~integer & ~whole & ~decimal).any(),
    )
    return {kind for kind, any_such in occurs.row(0, named=True).items() if any_such}


def _number_type(kinds: set[str]) -> pa.DataType | None:
    """The type of a column with values of these kinds; None if it stays text."""
    # No type holds long integers and decimals beside each other as they are.
    if not kinds or "text" in kinds or ("long" in kinds and kinds & {"whole", "decimal"}):
        return None
    return pa.float64() if "decimal" in kinds else pa.int64()


def long_integers(table: pa.Table) -> set[str]:
    """Columns of integers with one that a double cannot hold."""
    found = set()
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_integer(field.type) and field.type.bit_width == 64:
            least, most = pc.min_max(column).as_py().values()
            if most is not None and max(most, -least) > 1 << 53:
                found.add(field.name)
    return found


def common_schema(schemas: list[pa.Schema], long: Collection[str] = ()) -> pa.Schema:
    """The types that hold every file's values: all columns, widest number; text where numbers meet
    text.

    Args:
      long: columns with integers that a double cannot hold; text, where they meet decimals.

    Raises:
      BadData: a column has types that do not fit one another.
    """
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            if field.name in fields:
                field = _common(fields[field.name], field, field.name in long)
            fields[field.name] = field
    return pa.schema([field.with_nullable(True) for field in fields.values()])


def _common(a: pa.Field, b: pa.Field, long: bool) -> pa.Field:
    try:
        return pa.field(a.name, _common_type(a.type, b.type, long))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as e:
        raise BadData(
            f"A column has one type in all files, but {a.name!r} is {a.type} in some and {b.type}"
            " in others. Write the files with one type, or lay them out one by one."
        ) from e


def _common_type(a: pa.DataType, b: pa.DataType, long: bool) -> pa.DataType:
    if a == b:
        return a
    if _is_variable_list(a) and _is_variable_list(b):
        return pa.large_list(_common_type(a.value_type, b.value_type, long))
    texts = [kind for kind in (a, b) if _is_text(kind)]
    if len(texts) == 1 and (_is_scalar(a) or _is_scalar(b)):
        return texts[0]
    if _is_scalar(a) and _is_scalar(b):
        one_is_true = pa.types.is_boolean(a) or pa.types.is_boolean(b)
        if one_is_true or (long and pa.types.is_floating(a) != pa.types.is_floating(b)):
            return pa.large_string()
    schemas = [pa.schema([pa.field("v", kind)]) for kind in (a, b)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _is_scalar(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _is_variable_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the schema's columns and types; missing columns are null, and decimals beside
    text as read.
    """
    if table.schema.equals(schema):
        return table
    columns = []
    try:
        for field in schema:
            if field.name in table.column_names:
                columns.append(_cast(table[field.name], field.type))
            else:
                columns.append(pa.nulls(len(table), field.type))
    except pa.ArrowInvalid as e:
        raise BadData(f"A column has one type in all files, which its values must fit: {e}.") from e
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    # Arrow would write 1e+15 for 1000000000000000.0
    if pa.types.is_floating(_leaf(column.type)) and _is_text(_leaf(kind)):
        values = pl.DataFrame(pa.table({"v": column}))
        column = values.select(_as_text(pl.col("v"), values["v"].dtype)).to_arrow()["v"]
    if pa.types.is_string(column.type) and pa.types.is_integer(kind):
        column = pc.replace_substring_regex(column, r"\.0$", "")
    return column.cast(kind)


def _as_text(values: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, pl.List):
        return values.list.eval(_as_text(pl.element(), cast(pl.DataType, kind.inner)))
    return as_string(values, kind)


def _leaf(kind: pa.DataType) -> pa.DataType:
    return _leaf(kind.value_type) if _is_variable_list(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
