"""Items as a terminal shows them: with their display columns, and with what moved them."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from twinspire.cli.terminal_tables import terminal_table
from twinspire_core.display.figures import number, score_text
from twinspire_core.display.measured_lists import list_name
from twinspire_core.display.names import short_name
from twinspire_core.display.table import Row, Table


def items_table(items: list[dict[str, Any]], title: str) -> RenderableType:
    """Items with their ranks under a title."""
    head, *rows = item_cells(items)
    prose = [place for place, name in enumerate(head) if name not in ("", "item", "score")]
    short = [list(map(short_name, row)) for row in rows]
    table = Table(head=head, rows=short, names=(0, 1), prose=prose)
    return Group(Text(title, style="bold"), terminal_table(table))


def item_cells(items: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Names of the columns that say something, and a row per item, its rank first."""
    # A dict keeps the order in which items first name them; a set would not.
    names = dict.fromkeys(name for item in items for name in item)
    columns = [name for name in names if any(_cell(name, item.get(name)) for item in items)]
    yield ["", *columns]
    for rank, item in enumerate(items, 1):
        yield [str(rank), *(_cell(name, item.get(name)) for name in columns)]


def _cell(column: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case float() if column == "score":
            return score_text(value)
        case float():
            return number(value, 4)
        case [first, *_]:
            # Sources: JSON has them all, a table has room for the one that gave most
            return list_name(first)
        case _:
            return str(value)


def reasons_table(items: list[dict[str, Any]], reasons: list[list[dict[str, Any]]]) -> Table:
    """What moved each item most, the strongest first; a row per feature."""
    rows: list[Row] = []
    for rank, (item, of_item) in enumerate(zip(items, reasons, strict=True), 1):
        # The item stands in the first of its rows alone.
        names = [(str(rank), str(item["item"])), *[("", "")] * len(of_item)]
        for (place, name), reason in zip(names, of_item, strict=False):
            direction = "up" if reason["contribution"] > 0 else "down"
            rows.append([place, name, direction, reason["text"]])
    return Table(head=["", "item", "moved", "by"], rows=rows, names=(0, 1, 2), prose=[3])
