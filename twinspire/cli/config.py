"""What holds for a recommender: each key of its pipeline file, with where its value comes from."""

from datetime import timedelta
from itertools import groupby
from typing import Annotated

import typer

from twinspire.cli.options import AsJson, open_pipeline, pipeline_path, print_json
from twinspire_core.config.settings import Setting, duration_text, schema_text, settings, toml_text
from twinspire_core.errors import UsageError
from twinspire_core.terminal import out


def config(
    pipeline: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE]", help="A pipeline file, or its name.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of pipeline files.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print each key's value, and whether it comes from the file, the environment or the default.

    A value with `${NAME}` is printed as the file has it: it may be a secret. What each key means:
    docs/pipeline-file.md. With a schema next to it, an editor completes keys and shows what they
    mean; `twinspire init` writes one, and `#:schema ./twinspire.schema.json` as the file's first line
    names it.
    """
    if schema:
        typer.echo(schema_text(), nl=False)
        return
    if pipeline is None:
        raise UsageError("Name a pipeline file to see its values, or type --schema.")
    found = list(settings(open_pipeline(pipeline), pipeline_path(pipeline)))
    if as_json:
        print_json({f"{one.table}.{one.key}": _as_json(one) for one in found})
        return
    for table, of_table in groupby(found, lambda one: one.table):
        keys = list(of_table)
        width = max(len(one.key) for one in keys)
        out.print(f"[{table}]", markup=False, highlight=False, style="bold")
        for one in keys:
            style = "dim" if one.source == "default" else None
            out.print(_line(one, width), markup=False, highlight=False, soft_wrap=True, style=style)
        out.print()


def _line(one: Setting, width: int) -> str:
    if one.value is None:
        return f"# {one.key} is not set"
    return f"{one.key:<{width}} = {toml_text(one.value)}  # {one.source}"


def _as_json(one: Setting) -> dict[str, object]:
    value = duration_text(one.value) if isinstance(one.value, timedelta) else one.value
    return {"value": value, "from": one.source}
