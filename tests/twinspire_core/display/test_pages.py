import re
from xml.etree import ElementTree

import pytest

from tests.twinspire_core.display.test_quality_tables import DAY, metrics
from twinspire.cli.shared import terminal_table
from twinspire_core.display.pages import templates
from twinspire_core.display.quality_tables import quality_table
from twinspire_core.display.table import Card, Cell, Style, Table


def page(macro, value):
    module = templates("twinspire_core.display").get_template("macros.html.jinja").module
    return str(getattr(module, macro)(value))


def on_a_page(table):
    """Cells of the table on a page, by row."""
    html = page("table", table).replace("<wbr>", "")
    rows = ElementTree.fromstring(f"<body>{html}</body>").iter("tr")
    return [["".join(cell.itertext()) for cell in row] for row in rows]


def in_a_terminal(table):
    """Cells by row, as the terminal's renderer has them; headings without their line breaks."""
    drawn = terminal_table(table)
    columns = [list(column.cells) for column in drawn.columns]
    head = [column.header.plain.replace("\n@", "@").replace("\n", " ") for column in drawn.columns]
    return [head, *([cell.plain for cell in row] for row in zip(*columns, strict=True))]


@pytest.mark.parametrize(
    "table",
    [
        quality_table(metrics(), DAY, [10, 50]),
        Table(head=["", "what"], rows=[["<b>&", "[red]:warning: " + "long " * 9]], prose=[1]),
        Table(head=["a", "b"], rows=[["1", Cell("2", Style.BAD)], ["3", "4"]], sections=[1]),
    ],
    ids=["quality", "markup of either", "styles and sections"],
)
def test_a_page_and_a_terminal_show_the_same_cells(table):
    assert on_a_page(table) == in_a_terminal(table)


def test_names_out_of_logs_are_text():
    html = page("table", Table(head=["<i>"], rows=[["<b>"]], title='"><script>', note="<u>"))
    assert not re.search(r"<(i|b|u|script)>", html)
    assert "<b>" not in page("cards", [Card("<b>", "<b>", "<b>")])
