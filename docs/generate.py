"""Writes the pages that follow from the code: `docs/pipeline-file.md` and `docs/commands.md`. Run
by `make docs`.
"""

import types
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from twinspire.cli.main import PANELS, app
from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import SCHEMA_FILE, schema_text, toml_text
from twinspire_core.config.tables.base import BASIC
from twinspire_core.errors import TwinspireError

ROOT = Path(__file__).parents[1]
STAMP = "<!-- Written by `make docs` from the code; edit {source} instead. -->\n"

PIPELINE_FILE = """\
# The pipeline file

One TOML file describes one recommender: where its logs are, what their columns mean, which features the model sees,
and when a version may go live. Every command takes it as its first argument, and Airflow makes a DAG of each file in
`pipelines/`.

`twinspire init` drafts one from your logs; `twinspire validate` checks one against real data in seconds.
[The guide](guide/2-your-own-logs.md#2-a-pipeline-file) shows one.

- The common keys come first; unfold *Advanced* for the others. An unknown key is an error, which suggests the nearest
  key. A missing key gets its default; **required** keys have no default.
- `twinspire config PIPELINE` prints each key's value and its origin. Editors complete keys with the JSON Schema that
  `twinspire init` writes next to the file and `twinspire config --schema` prints.
- Relative paths start at the file's folder. A path may be `gs://bucket/…`, `s3://bucket/…` or `az://container/…`.
- `${NAME}` and `${NAME:-default}` stand for environment variables.
- Durations are written `90s`, `15m`, `6h`, `2d`. A list is written `["a", "b"]`.
- If a key changes, only the stages that use it run again.
"""
COMMANDS = """\
# Commands

`twinspire COMMAND --help` prints the same text. Progress and errors go to standard error. A command that changes
something prints what it did. Nearly every command takes `--json`. With it, in a pipe or in a file, the last line of
standard output is one JSON object.

Arguments and options of several commands:
"""
FEATURES = """
## `[features.NAME]`: what the towers see

One table per feature. You choose the name (lower-case letters, digits and `_`), which is also the name of the model's
input. The query tower sees the user and the request; the item tower sees the item. The model learns to place a user's
vector near those of the items that the user takes next.
"""
_SHARED_BY = 3
"""What so many commands, or kinds of feature, take in the same way is described once."""


def pipeline_file() -> str:
    """The text of docs/pipeline-file.md."""
    page = [
        STAMP.format(
            source="twinspire_core/config/tables/, twinspire_core/config/feature_kinds.py or docs/generate.py"
        )
    ]
    page.append(PIPELINE_FILE)
    for name, field in Pipeline.model_fields.items():
        page += _features() if name == "features" else _table(name, _model(field.annotation))
    return "\n".join(page)


def _table(name: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"\n## `[{name}]`\n\n{_prose(model)}\n"
    yield from _keys(model.model_fields)
    for key, field in model.model_fields.items():
        if (inner := _model(field.annotation)) is not None:
            yield f"\n### `[{name}.{key}]`\n\n{_prose(inner)}\n"
            yield from _keys(inner.model_fields)


def _features() -> Iterator[str]:
    yield FEATURES
    uses = Counter(
        _line(name, field) for kind in KINDS.values() for name, field in _own(kind).items()
    )
    shared = {line: None for line, count in uses.items() if count >= _SHARED_BY}
    yield "\n".join(("Keys of several kinds:\n", *shared))
    for kind, model in KINDS.items():
        yield f"\n### kind `{kind}`\n\n{_prose(model)}\n"
        fields = _own(model)
        also = {name: f for name, f in fields.items() if _line(name, f) in shared}
        if also:
            yield "- " + ", ".join(
                f"`{f.alias or name}`{' (required)' if f.is_required() else ''}"
                for name, f in also.items()
            )
        yield from _keys({name: field for name, field in fields.items() if name not in also})


def _own(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    return {name: field for name, field in kind.model_fields.items() if name != "kind"}


def _keys(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """Basic keys in a list, the others in one that unfolds."""
    basic = {name: field for name, field in fields.items() if field.json_schema_extra == BASIC}
    others = {
        name: field
        for name, field in fields.items()
        if name not in basic and not _model(field.annotation)
    }
    yield from (_line(name, field) for name, field in basic.items())
    if others:
        names = ", ".join(field.alias or name for name, field in others.items())
        yield f'\n<details markdown="1"><summary>Advanced: {names}</summary>\n'
        yield from (_line(name, field) for name, field in others.items())
        yield "\n</details>"


def _line(name: str, field: FieldInfo) -> str:
    """A key's line: its name, its values, its default, what it is for."""
    of = ", ".join(filter(None, (_value(field), _default(field))))
    return f"- `{field.alias or name}` ({of}): {field.description or ''}"


def _prose(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _model(kind: Any) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _value(field: FieldInfo) -> str:
    return " ".join(filter(None, (_kind(field.annotation), _limits(field.metadata))))


def _kind(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join(filter(None, (_kind(inner[0]), _limits(inner[1:]))))
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in inner if part is not type(None))
    if origin is tuple:
        return (
            f"list of {_kind(inner[0])}"
            if inner[-1] is ...
            else f"list of {len(inner)} {_kind(inner[0])}s"
        )
    if origin is dict:
        return f"table of {_kind(inner[1]).replace('list of ', 'lists of ')}"
    if _model(kind):
        return "table"
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "`true` or `false`",
        timedelta: "duration",
    }
    return names[kind]


def _limits(metadata: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found: list[str] = []
    for rule in metadata:
        if isinstance(rule, FieldInfo):
            found.append(_limits(rule.metadata))
        elif getattr(rule, "pattern", None):
            found.append(f"matching `{rule.pattern}`")
        else:
            found += [
                f"{sign} {getattr(rule, name)}"
                for name, sign in signs.items()
                if hasattr(rule, name)
            ]
    return ", ".join(filter(None, found))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default if field.default is not PydanticUndefined else None
    if value is None or (isinstance(value, tuple | dict) and not value):
        return ""
    return f"default `{toml_text(value)}`"


def commands() -> str:
    """The text of docs/commands.md."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    listed = [
        function.__name__.strip("_").replace("_", "-") for of in PANELS.values() for function in of
    ]
    uses = Counter(_entry(p) for name in listed for p in _shown(known[name]))
    shared = {entry: None for entry, count in uses.items() if count >= _SHARED_BY}
    page = [STAMP.format(source="twinspire/cli/"), COMMANDS, *shared]
    names = iter(listed)
    for panel, functions in PANELS.items():
        page.append(f"\n## {panel}")
        page += [_command(known[next(names)], shared) for _ in functions]
    return "\n".join([*page, *_exit_codes()])


def _exit_codes() -> Iterator[str]:
    yield "\n## Exit codes\n\n- 0, done."
    for error in sorted(TwinspireError.__subclasses__(), key=lambda error: error.exit_code):
        yield f"- {error.exit_code}, `{error.__name__}`. {error.__doc__}"


def _shown(command: Any) -> list[Any]:
    hidden = {"--help", "--json"}
    return [p for p in command.params if not hidden & {*p.opts} and not getattr(p, "hidden", False)]


def _command(command: Any, shared: Container[str]) -> str:
    entries = {_entry(p): _name(p) for p in _shown(command)}
    own = [entry for entry in entries if entry not in shared]
    also = ", ".join(
        f"{name} (required)" if "(required)" in entry else name
        for entry, name in entries.items()
        if entry in shared
    )
    lines = [f"\n### `twinspire {command.name}`\n", _prose_of(command.help)]
    if entries:
        lines += ["", *([f"- {also}"] if also else []), *own]
    return "\n".join(lines)


def _prose_of(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _entry(parameter: Any) -> str:
    """A parameter's line: its name, its default, what it is for."""
    default = _parameter_default(parameter)
    return f"- {_name(parameter)}{f' ({default})' if default else ''}: {parameter.help or ''}"


def _name(parameter: Any) -> str:
    flags = "/".join([*parameter.opts, *parameter.secondary_opts])
    kind = parameter.type_descriptor.annotation
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    if getattr(parameter, "is_flag", False):
        return f"`{flags}`"
    if get_origin(kind) is Literal:
        return f"`{flags} {'|'.join(get_args(kind))}`"
    return f"`{flags} {parameter.metavar or parameter.name.upper()}`"


def _parameter_default(parameter: Any) -> str:
    if parameter.required:
        return "" if parameter.param_type_name == "argument" else "required"
    value = parameter.default
    return f"default: {value}" if value not in (None, False, True, "", (), []) else ""


PAGES = {
    "docs/pipeline-file.md": pipeline_file,
    "docs/commands.md": commands,
    f"pipelines/{SCHEMA_FILE}": schema_text,
}

if __name__ == "__main__":
    for page, write in PAGES.items():
        text = write().rstrip() + "\n"
        if not (ROOT / page).exists() or (ROOT / page).read_text() != text:
            (ROOT / page).write_text(text)
            print(f"wrote {page}")
