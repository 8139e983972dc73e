"""What a part of the report consists of. The template knows these types and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from twinspire_core.display.table import Table


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
