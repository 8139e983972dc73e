from datetime import date

from rich.console import Console

from tests.twinspire_core.display.test_quality_tables import metrics
from twinspire.cli.terminal_tables import terminal_table
from twinspire_core.display.quality_tables import quality_table
from twinspire_core.display.table import Table


def drawn(table, width=80, **more):
    console = Console(width=width, **more)
    with console.capture() as shown:
        console.print(terminal_table(table))
    return shown.get()


def test_every_cell_is_drawn():
    table = Table(
        head=["list", "recall@10", "best other"],
        rows=[["a", "0.125", "–"], ["[b]", "1", "2"]],
        title="What is found",
        note="read it so",
        sections=[1],
    )
    lines = [line.split() for line in drawn(table).splitlines()]
    assert lines == [
        ["What", "is", "found"],
        [],
        ["recall", "best"],
        ["list", "@10", "other"],
        ["─" * 19],
        ["a", "0.125", "–"],
        [],
        ["[b]", "1", "2"],
        [],
        ["read", "it", "so"],
    ]


def test_the_table_of_quality_fits_80_columns():
    day = date(2024, 5, 2)
    table = quality_table(metrics(), day, [10, 50, 100])
    text = drawn(table)
    assert all(label in text for label in ("served: fixed order", "bought together", "held out"))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert {cell.text for row in table.cells for cell in row if " " not in cell.text} <= set(
        text.split()
    ) | {""}


def test_figures_keep_their_digits_where_names_can_give_way():
    table = Table(
        head=["on", "list", *"abcd"],
        rows=[["held out", "purchase history, decayed", *["0.1234"] * 4]],
        names=(0, 1),
    )
    text = drawn(table, width=50)
    assert text.split().count("0.1234") == 4 and "…" not in text
    assert max(map(len, text.splitlines())) <= 50
