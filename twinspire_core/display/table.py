"""Tables, cards and figures as people see them: the same in a terminal and on a page.

twinspire/cli/shared.py draws a table in a terminal, macros.html.jinja tables and cards on a page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
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
    """A figure that a page begins with; the note says what to compare it with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text; the first cell of each is its heading.

    A column holds names, prose or figures. Names are aligned left, and broken into lines only where
    figures would have no room, as they may be copied; prose is aligned left and may be broken; figures
    are aligned right, in a column as narrow as they are.

    Attributes:
      head: headings of the columns, all empty where they need none.
      note: how to read the table.
      names: numbers of the columns that hold names.
      prose: numbers of the columns that hold prose; all others hold figures.
      sections: numbers of the rows that begin a new section, but for the first.
      folded: shown only when the reader opens it, where that is possible.
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
        """The rows, as cells with a style or None."""
        return [[Cell(x) if isinstance(x, str) else x for x in row] for row in self.rows]

    def parts(self) -> list[list[list[Cell]]]:
        """The rows of each section."""
        cells = self.cells
        bounds = pairwise([0, *self.sections, len(cells)])
        return [cells[start:end] for start, end in bounds]


def in_style(row: Iterable[str], style: Style | None) -> list[Cell]:
    """A row whose cells all mean the same."""
    return [Cell(text, style) for text in row]


NONE = "–"
"""Shown where there is no figure."""


def number(value: float | None, digits: int = 3) -> str:
    """A measure.

    Example:
      >>> number(0.16349)
      '0.163'
      >>> number(None)
      '–'
    """
    return NONE if value is None else f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """A number of things.

    Example:
      >>> count(12345)
      '12,345'
    """
    return NONE if value is None else f"{value:,}"


def counted(value: float, unit: str) -> str:
    """A number of things, in a sentence; decimals are rounded.

    Example:
      >>> counted(12345, "item"), counted(0.7, "day")
      ('12,345 items', '1 day')
    """
    # By the rounded number: 1.2 is shown as 1, and "1 days" would be wrong.
    whole = f"{value:,.0f}"
    return f"{whole} {unit}" if whole == "1" else f"{whole} {unit}s"


def times(value: float) -> str:
    """How often, in a sentence.

    Example:
      >>> times(3), times(1)
      ('3 times', 'once')
    """
    return "once" if round(value) == 1 else counted(value, "time")


def ago(value: float, unit: str = "day") -> str:
    """How long ago, in a sentence.

    Example:
      >>> ago(3), ago(1.2), ago(0.2, "hour")
      ('3 days ago', '1 day ago', 'less than an hour ago')
    """
    if round(value) < 1:
        return f"less than {'an' if unit == 'hour' else 'a'} {unit} ago"
    return f"{counted(value, unit)} ago"


def share(value: float | None, digits: int = 1) -> str:
    """A share, in percent.

    Example:
      >>> share(0.1234)
      '12.3%'
    """
    return NONE if value is None else f"{value:.{digits}%}"


def change(value: float | None) -> str:
    """A relative change, with its sign.

    Example:
      >>> change(-0.1234)
      '−12.3%'
    """
    # The hyphen that Python writes is half as wide as a plus sign
    return NONE if value is None else f"{value:+.1%}".replace("-", "−")


def change_text(relative: float | None, low: float | None, high: float | None) -> str:
    """A relative change with its interval, if it has one.

    Example:
      >>> change_text(-0.12, -0.2, -0.04)
      '−12.0% (−20.0% to −4.0%)'
    """
    if low is None or high is None:
        return change(relative)
    return f"{change(relative)} ({change(low)} to {change(high)})"


def interval(ends: tuple[float, float]) -> str:
    """The ends of an interval of a measure.

    Example:
      >>> interval((0.15, 0.1711))
      '0.150–0.171'
    """
    return "–".join(map(number, ends))


LONGEST = 120


def short_name(name: str) -> str:
    """A name, cut to `LONGEST` characters: a catalogue may have whole pages where a title should be.

    Example:
      >>> short_name("Lamp")
      'Lamp'
      >>> len(short_name("x" * 20_000))
      120
    """
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
