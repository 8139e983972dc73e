"""How commands print: lines and tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich.table
from rich.box import SIMPLE
from rich.text import Text

from twinspire_core.display.table import Style, Table
from twinspire_core.errors import TwinspireError, format_message
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console


def print_json(value: Any) -> None:
    """One line on standard output."""
    print(json.dumps(value, default=str), flush=True)


def end_with_json(value: Any, as_json: bool) -> None:
    """Ends a command with a line of JSON, for programs."""
    # At a terminal, people read the words on standard error
    if as_json or not sys.stdout.isatty():
        print_json(value)


def say(text: str) -> None:
    """Prints a line for people, on standard error."""
    # Never broken into lines, so that commands can be copied
    console.print(format_message(text), soft_wrap=True)


@contextmanager
def json_on_error(stage: str, as_json: bool) -> Iterator[dict[str, Any]]:
    """Ends standard output with a JSON line if the command fails.

    Args:
      stage: name of the stage or command.
      as_json: whether to do so at a terminal, too.

    Yields:
      The fields of that line; the command may add to them.
    """
    line: dict[str, Any] = {"stage": stage}
    try:
        yield line
    except Exception as error:
        cause = error if isinstance(error, TwinspireError) else explain(error)
        if cause is None:
            raise
        line |= {
            "status": type(cause).__name__,
            "exit_code": cause.exit_code,
            "reason": format_message(cause),
            **cause.facts(),
        }
        end_with_json(line, as_json)
        if cause is not error:
            raise cause from error
        raise


LOOKS = {
    Style.STRONG: "bold",
    Style.GOOD: "green",
    Style.WARNING: "yellow",
    Style.BAD: "red",
    Style.DIM: "dim",
}
"""The look of each style in a terminal."""


def terminal_table(table: Table) -> rich.table.Table:
    """The table as Rich prints it."""
    # All cells are `Text`: names of items and users may look like markup
    drawn = rich.table.Table(
        title=Text(table.title, style="table.title") if table.title else None,
        caption=Text(table.note, style="table.caption") if table.note else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE if table.has_head else None,
        show_header=table.has_head,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for place, name in enumerate(table.head):
        prose = place in table.prose
        figures = not prose and place not in table.names
        # If there is no room and no prose, names are broken before figures lose digits
        folds = prose or not (table.prose or figures)
        drawn.add_column(
            Text(_broken(name) if figures else name),
            justify="right" if figures else "left",
            no_wrap=not folds,
            # A word that is longer than its column goes on in the next line, so that paths can be copied
            overflow="fold" if folds else "ellipsis",
        )
    for number, part in enumerate(table.parts()):
        if number:
            drawn.add_section()
        for cells in part:
            drawn.add_row(
                *(Text(text, style=LOOKS[style] if style else "") for text, style in cells)
            )
    return drawn


def _broken(heading: str) -> str:
    """A heading of figures, with a line for each word."""
    # So the column is no wider than its figures
    return heading.replace(" ", "\n").replace("@", "\n@")
