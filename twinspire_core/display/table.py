"""Tables and cards as people see them, before it is known where.

twinspire/cli/terminal_tables.py draws a table in a terminal, macros.html.jinja both on a page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Style(StrEnum):
    """What a cell means to its reader. Each renderer has a look for each of them."""

    STRONG = "strong"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    DIM = "dim"


class Cell(NamedTuple):
    """A cell that is more than its text."""

    text: str
    style: Style | None = None


Row = Sequence[str | Cell]


@dataclass(frozen=True, slots=True)
class Card:
    """A figure to see first.

    Attributes:
      label: what it is.
      value: the figure.
      note: what to hold it against.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text; the first cell of each is its heading.

    A column holds names, prose or figures. Names stand at the left and are broken only where figures
    would have no room, as they may be copied; prose stands at the left and may be broken; figures
    stand at the right, and a column of them may be as narrow as they are.

    Attributes:
      head: headings of the columns, all empty where they need none.
      rows: cells.
      title: what it shows.
      note: how to read it.
      names: places of the columns that hold names.
      prose: places of the columns that hold prose; all others hold figures.
      sections: places of the rows that begin a new section, but for the first.
      folded: shown only when it is asked for, where the reader can ask.
    """

    head: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    names: Sequence[int] = (0,)
    prose: Sequence[int] = ()
    sections: Sequence[int] = ()
    folded: bool = False

    @property
    def has_head(self) -> bool:
        """Whether any column has a heading."""
        return any(self.head)

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, with a style or None at each of their cells."""
        return [[_as_cell(cell) for cell in row] for row in self.rows]

    def parts(self) -> list[list[list[Cell]]]:
        """The rows of each section."""
        starts = [0, *self.sections]
        ends = [*self.sections, len(self.rows)]
        cells = self.cells
        return [cells[start:end] for start, end in zip(starts, ends, strict=True)]


def in_style(row: Iterable[str], style: Style | None) -> list[Cell]:
    """A row whose cells all mean the same."""
    return [Cell(text, style) for text in row]


def _as_cell(cell: str | Cell) -> Cell:
    return Cell(cell) if isinstance(cell, str) else cell
