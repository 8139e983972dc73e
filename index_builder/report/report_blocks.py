"""What a part of the report consists of. The template knows these types and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from twinspire_core.contracts.measures import Measures, value_of

NONE = "–"
"""Stands where there is no figure."""

LISTS = {
    "two_tower": "two-tower",
    "mix": "mix",
    "popular_lately": "popular lately",
    "popular": "most popular",
    "most_popular": "most popular",
    "past": "taken before",
    "co_occurrence": "taken together",
    "als": "ALS",
}
"""What lists are called, by their names in metrics.json."""


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

    Attributes:
      head: headings of the columns.
      rows: cells.
      caption: what it shows.
      strong: places of the rows that matter most.
      folded: shown only when it is asked for.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    strong: Sequence[int] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry of a legend.

    Attributes:
      colour: name of a colour of charts.py.
      label: what has it.
      form: `line`, `dash`, `dot` or `area`.
    """

    colour: str
    label: str
    form: str = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture with what it says in words and in numbers.

    Attributes:
      title: short.
      svg: inline SVG.
      alt: what is to be seen, for those who do not see it.
      caption: how to read it.
      legend: what the colours mean.
      table: its numbers.
    """

    title: str
    svg: str
    alt: str
    caption: str
    table: Table
    legend: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list.

    Attributes:
      name: what people call it; the id where it has no name, or left the corpus.
      id: shown beside the name.
      taken: whether it was taken that day.
    """

    name: str
    id: str = ""
    taken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A user with the past and what was recommended.

    Attributes:
      who: says which user it is.
      history: items of the past.
      items: items recommended.
      taken: how many the user took, and how many of them are in the list.
    """

    who: str
    history: Sequence[Item]
    items: Sequence[Item]
    taken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page.

    Attributes:
      anchor: its address in the page.
      title: its heading.
      text: paragraphs.
      figures, tables, examples: what it shows, in this order.
      half: two of these stand side by side where there is room.
    """

    anchor: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()
    half: bool = False


def called(name: str) -> str:
    """What people are told that a list is."""
    return LISTS.get(name, name.replace("_", " "))


def number(value: float | None, digits: int = 3) -> str:
    """A measure, such as 0.163."""
    return NONE if value is None else f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """A number of things, such as 12,345."""
    return NONE if value is None else f"{value:,}"


def share(value: float | None, digits: int = 1) -> str:
    """A share in percent, such as 12.3%."""
    return NONE if value is None else f"{value:.{digits}%}"


def change(value: float | None) -> str:
    """A relative change with its sign, such as +12.3%."""
    return NONE if value is None else f"{value:+.1%}".replace("-", "−")


def interval(measures: Measures | None, name: str) -> tuple[float, float] | None:
    """The interval of a measure, where there is one."""
    return measures.intervals.get(name) if measures else None


def measured(measures: Measures | None, name: str) -> str:
    """A measure, also of a slice as in `recall@50/users:0`, with its interval where there is
    one.
    """
    value = number(value_of(measures, name))
    span = interval(measures, name)
    return f"{value} ({number(span[0])}–{number(span[1])})" if span else value
