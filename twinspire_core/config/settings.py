"""A pipeline file key by key.

The values in effect and where they come from, values that override them, and the JSON Schema with which
editors complete keys.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault

from twinspire_core.config.pipeline import VARIABLE, Pipeline
from twinspire_core.config.tables.base import Strict

SCHEMA_FILE = "twinspire.schema.json"
SCHEMA_LINE = f"#:schema ./{SCHEMA_FILE}\n"
"""The first line of a pipeline file, which names the schema next to it for taplo and Even Better TOML."""
_FIRST_NUMBER = 7_160_384_925_000_000  # no pipeline file has numbers from this one on


class Setting(NamedTuple):
    """A value in effect.

    Attributes:
      table: such as `train.history`.
      value: None if the key is not set and has no default. In a value with environment variables, `${NAME}`
        is not replaced, because the variable may be a secret.
    """

    table: str
    key: str
    value: Any
    source: Literal["file", "environment", "default"]


def settings(pipeline: Pipeline, path: Path) -> Iterator[Setting]:
    """All values in effect, in the order of docs/pipeline-file.md, of a pipeline loaded from this path."""
    numbers: dict[str, str] = {}

    def number(variable: re.Match[str]) -> str:
        numbers[f"{_FIRST_NUMBER + len(numbers)}"] = variable[0]
        return next(reversed(numbers))

    # TOML has no variables. Each is replaced by a number, which is valid inside and outside of strings.
    written = tomllib.loads(VARIABLE.sub(number, path.read_text()))
    return _of_table("", pipeline, _with_variables(written, numbers))


def override(pipeline: Pipeline, values: Mapping[str, Any]) -> Pipeline:
    """The pipeline with some values replaced, by keys such as `train.history.pooling`.

    Raises:
      ValueError: a pipeline file cannot have such a key or value.
    """
    # By alias, because the file uses these names of keys.
    tables = pipeline.model_dump(by_alias=True)
    for name, value in values.items():
        *path, key = name.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[key] = value
    return Pipeline.model_validate(tables)


def _with_variables(value: Any, numbers: Mapping[str, str]) -> Any:
    """The parsed file, with the variables in place of their numbers."""
    match value:
        case dict():
            return {key: _with_variables(x, numbers) for key, x in value.items()}
        case list():
            return [_with_variables(x, numbers) for x in value]
        case _:
            text = str(value)
            for number, variable in numbers.items():
                text = text.replace(number, variable)
            return text if "${" in text else value


def _of_table(table: str, model: Strict, written: Mapping[str, Any]) -> Iterator[Setting]:
    tables: dict[str, tuple[Strict, Mapping[str, Any]]] = {}
    for name, field in type(model).model_fields.items():
        key, value = field.alias or name, getattr(model, name)
        in_file = written.get(key, {})
        if isinstance(value, Strict):
            tables[key] = value, in_file
        elif key == "features" and not table:
            tables |= {f"{key}.{name}": (x, in_file[name]) for name, x in value.items()}
        elif key not in written:
            yield Setting(table, key, value, "default")
        elif "${" in str(in_file):
            yield Setting(table, key, in_file, "environment")
        else:
            yield Setting(table, key, value, "file")
    # TOML needs inner tables after the keys of the outer one.
    for key, (inner, in_file) in tables.items():
        yield from _of_table(f"{table}.{key}".lstrip("."), inner, in_file)


def toml_text(value: Any) -> str:
    """A value as TOML spells it."""
    # bool before int, because a bool is also an int.
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return f'"{duration_text(value)}"'
        case tuple() | list():
            return f"[{', '.join(map(toml_text, value))}]"
        case dict():
            pairs = ", ".join(f"{_key(k)} = {toml_text(v)}" for k, v in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case int():
            return f"{value:_}"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name, ensure_ascii=False)


def duration_text(value: timedelta) -> str:
    """A duration in the largest unit that makes it a whole number: `90s`, `15m`."""
    seconds = int(value.total_seconds())
    units = {"d": 86_400, "h": 3_600, "m": 60, "s": 1} if seconds else {"s": 1}
    return next(f"{seconds // size}{unit}" for unit, size in units.items() if seconds % size == 0)


def schema_text() -> str:
    """The JSON Schema of a pipeline file."""
    schema = Pipeline.model_json_schema(schema_generator=_TomlSchema)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


class _TomlSchema(GenerateJsonSchema):
    """A schema without null, because TOML has none. A key without a value is left out."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def get_default_value(self, schema: Any) -> Any:
        default = super().get_default_value(schema)
        return NoDefault if default is None else default

    def encode_default(self, dft: Any) -> Any:
        return duration_text(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
