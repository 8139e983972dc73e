"""Tables, drawn in a terminal."""

import rich.table
from rich.box import SIMPLE
from rich.text import Text

from twinspire_core.display.table import Style, Table

LOOKS = {
    Style.STRONG: "bold",
    Style.GOOD: "green",
    Style.WARNING: "yellow",
    Style.BAD: "red",
    Style.DIM: "dim",
}
"""How each meaning looks."""


def terminal_table(table: Table) -> rich.table.Table:
    """The table as Rich prints it.

    Args:
      table: names of items and users may stand in it: none of its text is taken for markup.
    """
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
        # Where there is no room and no prose, names give way before figures lose their digits.
        folds = prose or not (table.prose or figures)
        drawn.add_column(
            Text(_broken(name) if figures else name),
            justify="right" if figures else "left",
            no_wrap=not folds,
            # A word that is longer than its column goes on in the next line: paths are to be copied
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
    """A heading of figures with a line for each word, so that it is no wider than they are."""
    return heading.replace(" ", "\n").replace("@", "\n@")
