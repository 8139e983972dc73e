"""What sections of the report consist of. The template knows these types and no others."""

from collections.abc import Sequence
from dataclasses import dataclass

from twinspire_core.display.table import Table


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry of a legend.

    Attributes:
      colour: one of `NAMES` of charts.py.
      form: how the chart draws it: `line`, `dash`, `dot` or `area`.
    """

    colour: str
    label: str
    form: str = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, with its message in words and its numbers in a table.

    Attributes:
      svg: inline SVG of charts.py.
      alt: what the chart shows, for readers who do not see it.
      caption: how to read the chart.
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
      name: its name for people; the id if it has none, or left the corpus.
      id: shown after the name; empty if it is the name.
      taken: whether the user took it that day.
    """

    name: str
    id: str = ""
    taken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A user's purchase history and list.

    Attributes:
      who: which user it is, in words.
      items: the recommended items, best first.
      taken: how many items the user took, and how many of these are in the list, in words.
    """

    who: str
    history: Sequence[Item]
    items: Sequence[Item]
    taken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the page: paragraphs, then figures, tables and examples.

    Attributes:
      anchor: address in the page, after `#`.
      half: whether two such sections may stand side by side.
    """

    anchor: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()
    half: bool = False
