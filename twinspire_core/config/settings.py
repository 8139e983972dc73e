"""A pipeline file key by key: what holds and where it comes from, other values put over it, and the JSON
Schema by which editors complete keys.
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
"""The first line of a pipeline file, by which taplo and Even Better TOML know the schema next to it."""
_FIRST_NUMBER = 7_160_384_925_000_000
"""Numbers from here on are in no pipeline file."""


class Setting(NamedTuple):
    """A value that holds.

    Attributes:
      table: `train.history`, say.
      key: in that table.
      value: None where the key is not set and has no default. From the environment, as the file has
        it, without what `${NAME}` stands for: it may be a secret.
      source: where the value comes from.
    """

    table: str
    key: str
    value: Any
    source: Literal["file", "environment", "default"]


def settings(pipeline: Pipeline, path: Path) -> Iterator[Setting]:
    """All values that hold, in the order of docs/pipeline-file.md.

    Args:
      pipeline: what was loaded.
      path: the file that it was loaded from.
    """
    numbers: dict[str, str] = {}

    def number(variable: re.Match[str]) -> str:
        numbers[f"{_FIRST_NUMBER + len(numbers)}"] = variable[0]
        return next(reversed(numbers))

    # TOML has no variables: it reads a number in the place of each, in a text and outside of one.
    written = tomllib.loads(VARIABLE.sub(number, path.read_text()))
    return _of_table("", pipeline, _with_variables(written, numbers))


def override(pipeline: Pipeline, values: Mapping[str, Any]) -> Pipeline:
    """The pipeline with other values by key, as `train.history.pooling`.

    Raises:
      ValueError: a key or a value is none of the pipeline file's.
    """
    tables = pipeline.model_dump(by_alias=True)
    for name, value in values.items():
        *path, key = name.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[key] = value
    return Pipeline.model_validate(tables)


def _with_variables(value: Any, numbers: Mapping[str, str]) -> Any:
    """What was read, with the variables that numbers stand for."""
    match value:
        case dict():
            return {key: _with_variables(one, numbers) for key, one in value.items()}
        case list():
            return [_with_variables(one, numbers) for one in value]
        case _:
            text = str(value)
            for number, variable in numbers.items():
                text = text.replace(number, variable)
            return text if "${" in text else value


def _of_table(table: str, model: Strict, written: Mapping[str, Any]) -> Iterator[Setting]:
    tables: dict[str, tuple[Strict, Mapping[str, Any]]] = {}
    for name, field in type(model).model_fields.items():
        key, value = field.alias or name, getattr(model, name)
        own = written.get(key, {})
        if isinstance(value, Strict):
            tables[key] = value, own
        elif key == "features" and not table:
            tables |= {f"{key}.{name}": (one, own[name]) for name, one in value.items()}
        elif key not in written:
            yield Setting(table, key, value, "default")
        elif "${" in str(own):
            yield Setting(table, key, own, "environment")
        else:
            yield Setting(table, key, value, "file")
    # After a table's own keys, as TOML wants it.
    for key, (inner, own) in tables.items():
        yield from _of_table(f"{table}.{key}".lstrip("."), inner, own)


def toml_text(value: Any) -> str:
    """A value as TOML spells it."""
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
    """A duration with its largest unit that is whole: `90s`, `15m`."""
    seconds = int(value.total_seconds())
    units = {"d": 86_400, "h": 3_600, "m": 60, "s": 1} if seconds else {"s": 1}
    return next(f"{seconds // size}{unit}" for unit, size in units.items() if seconds % size == 0)


def schema_text() -> str:
    """The JSON Schema of a pipeline file."""
    schema = Pipeline.model_json_schema(schema_generator=_TomlSchema)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: a key that has no value is left out."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def get_default_value(self, schema: Any) -> Any:
        default = super().get_default_value(schema)
        return NoDefault if default is None else default

    def encode_default(self, dft: Any) -> Any:
        return duration_text(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
