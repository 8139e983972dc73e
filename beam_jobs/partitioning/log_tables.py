"""Reads raw log files of any kind as Arrow tables of bounded size.

Their types are made to fit the values of all files, and lines that are no records are set aside.
"""

import codecs
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.ingest.columns import as_string
from beam_jobs.ingest.timestamps import are_numbers, forms_of
from beam_jobs.partitioning.set_aside import Malformed, encoding_advice
from twinspire_core.errors import BadData, UsageError
from twinspire_core.records.csv_lines import CsvOptions, decodes, first_bytes
from twinspire_core.records.raw_files import ENDINGS, Kind, Unreadable, kind_of, readable
from twinspire_core.records.record_file import CheckNames, RecordFile, delimiter_of

Format = Literal["auto", "parquet", "jsonl", "csv"]
BLOCK_BYTES = 16 << 20
BATCH_ROWS = 1 << 17
_TEXT_LENGTH = 500
# No more than 18 digits, which 64 bits always hold, and no leading zero: `007` would come back as 7.
_INTEGER = r"^(?:0|-?[1-9]\d{0,17})$"
_WHOLE = r"^(?:0|-?[1-9]\d{0,14})\.0$"
_DECIMAL = r"^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,3})?$"
_MAX_DIGITS = 15  # what a double holds for sure


def format_of(path: Path, given: Format = "auto") -> Kind:
    """The file's format: as given, or by its ending, `.gz` aside.

    Raises:
      UsageError: no format has this ending.
    """
    if given != "auto":
        return given
    kind = kind_of(path.name)
    if kind is None:
        raise UsageError(
            f"A file must have one of these endings: {', '.join(ENDINGS)}, also with .gz. Found"
            f" {path.name}. Add --format parquet, jsonl or csv."
        )
    return kind


def files_below(path: Path) -> list[Path]:
    """The files below a folder, sorted; a file itself. Hidden files, and markers such as _SUCCESS, hold no
    records.
    """
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] not in "._")


def read(
    path: Path,
    malformed: Callable[[Malformed], None],
    format: Format = "auto",
    options: CsvOptions | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[pa.Table]:
    """Yields the file's records in order, in tables of some 100,000 rows or 16 MiB of text.

    Args:
      path: a local file; text formats may be gzipped, whatever their name.
      malformed: called for every line that is no record; it may raise an error.
      format: as for `format_of`; `auto` takes it from the ending.
      options: how a CSV file is written; by default with commas, in UTF-8.
      progress: called with the share of the file read so far, in [0, 1].

    Raises:
      BadData: the file is missing, empty, truncated, or not of its format.
    """
    kind = format_of(path, format)
    options = options or CsvOptions()
    if kind == "csv":
        _refuse_utf8_as_other(path, options)
    file = RecordFile(str(path), kind, options)
    size = path.stat().st_size
    blocks = file.blocks(
        check_names=_header_check(path, kind, options),
        empty_is_null=True,
        block_rows=BATCH_ROWS,
        block_bytes=BLOCK_BYTES,
    )
    try:
        with readable(str(path), kind, "--format"):
            if size == 0 or file.is_empty():
                raise BadData(f"{path} is empty. Write it again, or leave it out.")
            for block in blocks:
                if isinstance(block, Unreadable):
                    where = f"{'line' if kind == 'jsonl' else 'row'} {block.number}"
                    reason = f"{block.reason}: {block.why}"
                    malformed(Malformed(str(path), where, reason, block.text[:_TEXT_LENGTH]))
                else:
                    progress(min(1.0, block.offset / size))
                    yield block.rows
    except UnicodeDecodeError as e:
        raise BadData(
            f"{path} is not {options.encoding}: {str(e).partition(': ')[0]}."
            f" {encoding_advice(str(path))}".rstrip()
        ) from e


def _refuse_utf8_as_other(path: Path, options: CsvOptions) -> None:
    """Refuses UTF-8 that is read in another encoding: it raises no error, and gives Ã¼ for ü."""
    if codecs.lookup(options.encoding).name == "utf-8" or not path.is_file():
        return
    sample = first_bytes(str(path))
    if not sample.isascii() and decodes(sample, "utf-8"):
        raise UsageError(f"{path} is UTF-8, not {options.encoding}. Leave --encoding out.")


def _header_check(path: Path, kind: Kind, options: CsvOptions) -> CheckNames | None:
    """The check of a CSV file's header; None if the file need not have one."""
    if kind != "csv" or options.columns:
        return None
    delimiter = options.delimiter or delimiter_of(str(path))

    def check(names: Sequence[str]) -> None:
        value = next((name for name in names if _is_value(name)), None)
        if value is None and names and len(set(names)) == len(names):
            return
        header = delimiter.join(names)[:200]
        found = f"is {header!r}" if value is None else f"has {value!r}, a number or a time"
        example = ",".join(["user", "item", "time", "…"][: len(names) or 3])
        raise UsageError(
            f"The first line of a CSV file must be a header with distinct column names; in {path}"
            f" it {found}. If the file has no header line, give the names of"
            f" its columns: --columns {example}."
        )

    return check


def _is_value(name: str) -> bool:
    """Whether a cell of the first line is a number or a time, which no column is called."""
    cell = pl.Series([name])
    return bool(are_numbers(cell)[0] or forms_of(cell))


def flat(table: pa.Table) -> pa.Table:
    """The table with a column for each field of a nested column, as `user.id` and `user.country`: no stage
    reads nested columns.
    """
    # A field may be nested itself, so once is not enough.
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


class TextNumbers:
    """Finds, table by table, the text columns whose values numbers can stand for.

    `007` is text, as is a whole number that 64 bits cannot hold; `1.50` becomes 1.5. Where all values
    are whole, `17850.0` becomes 17850: pandas writes integers so where a column has nulls.
    """

    def __init__(self, keep: tuple[str, ...] = ()) -> None:
        """Keeps these columns as text, whatever they hold."""
        self._keep = set(keep)
        self._types: dict[str, set[str]] = {}

    def see(self, table: pa.Table) -> None:
        """Takes note of a table's values."""
        for name in table.column_names:
            kinds = self._types.setdefault(name, set())
            if name in self._keep or not pa.types.is_string(table.schema.field(name).type):
                kinds.add("text")
            if "text" not in kinds:
                kinds |= _kinds(pl.Series("v", table[name]))

    def types(self) -> dict[str, pa.DataType]:
        """Columns that are numbers."""
        types = {}
        for name, kinds in self._types.items():
            # No number type holds both long integers and decimals exactly.
            is_inexact = "long" in kinds and kinds & {"whole", "decimal"}
            if kinds and "text" not in kinds and not is_inexact:
                types[name] = pa.float64() if "decimal" in kinds else pa.int64()
        return types


def with_numbers(table: pa.Table) -> pa.Table:
    """A table of text, with numbers in the columns that hold only numbers."""
    numbers = TextNumbers()
    numbers.see(table)
    types = numbers.types()
    fields = [field.with_type(types.get(field.name, field.type)) for field in table.schema]
    return conform(table, pa.schema(fields))


def _kinds(values: pl.Series) -> set[str]:
    """Which of the kinds integer, long integer, whole, decimal and text occur; nulls have no kind."""
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


def long_integers(table: pa.Table) -> set[str]:
    """Columns of integers too long for a double."""
    names = set()
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_integer(field.type) and field.type.bit_width == 64:
            least, most = pc.min_max(column).as_py().values()
            if most is not None and max(most, -least) > 1 << 53:
                names.add(field.name)
    return names


def common_schema(schemas: list[pa.Schema], long: Collection[str] = ()) -> pa.Schema:
    """The types that hold the values of all files: the widest number, or text where numbers meet text.

    Args:
      schemas: one or more, each of some file.
      long: columns with integers too long for a double, which become text where they meet decimals.

    Raises:
      BadData: a column has types that do not fit one another.
    """
    fields: dict[str, pa.Field] = {}
    for field in (field for schema in schemas for field in schema):
        # A field that comes once keeps its metadata, such as its id in Parquet.
        if before := fields.get(field.name):
            field = _common(before, field, field.name in long)
        fields[field.name] = field
    # `conform` fills columns that a file lacks with nulls.
    return pa.schema([field.with_nullable(True) for field in fields.values()])


def _common(a: pa.Field, b: pa.Field, long: bool) -> pa.Field:
    try:
        return pa.field(a.name, _common_type(a.type, b.type, long))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as e:
        raise BadData(
            f"A column must have the same type in all files; {a.name!r} is {a.type} in some and"
            f" {b.type} in others. Write the files with one type, or partition them one by one."
        ) from e


def _common_type(a: pa.DataType, b: pa.DataType, long: bool) -> pa.DataType:
    if a == b:
        return a
    if _is_variable_list(a) and _is_variable_list(b):
        return pa.large_list(_common_type(a.value_type, b.value_type, long))
    # Every number and every truth value can be written as text; a date cannot, in one way only.
    texts = [kind for kind in (a, b) if _is_text(kind)]
    if len(texts) == 1 and (_is_scalar(a) or _is_scalar(b)):
        return texts[0]
    if _is_scalar(a) and _is_scalar(b):
        has_boolean = pa.types.is_boolean(a) or pa.types.is_boolean(b)
        if has_boolean or (long and pa.types.is_floating(a) != pa.types.is_floating(b)):
            return pa.large_string()
    schemas = [pa.schema([pa.field("v", kind)]) for kind in (a, b)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _is_scalar(kind: pa.DataType) -> bool:
    return bool(
        (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or pa.types.is_boolean(kind)
    )


def _is_variable_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns and types of a schema; missing columns are null, and decimals that become
    text are written as they were read.
    """
    if table.schema.equals(schema):
        return table
    names = table.column_names
    absent = pa.nulls(len(table))
    try:
        columns = [
            _cast(table[field.name] if field.name in names else absent, field.type)
            for field in schema
        ]
    except pa.ArrowInvalid as e:
        raise BadData(
            f"A column must have the same type in all files, and all its values must fit it: {e}."
        ) from e
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    # By Polars: Arrow would write 1e+15 for 1000000000000000.0.
    if pa.types.is_floating(_leaf(column.type)) and _is_text(_leaf(kind)):
        values = pl.DataFrame(pa.table({"v": column}))
        column = values.select(_as_text(pl.col("v"), values["v"].dtype)).to_arrow()["v"]
    # Arrow reads no integer in `17850.0`, as pandas writes one next to nulls.
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
