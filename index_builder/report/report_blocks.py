"""What sections of the report consist of. The template knows these types and no others."""

from collections.abc import Sequence
from dataclasses import dataclass

from twinspire_core.contracts.day_metrics import ExampleList
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
    examples: Sequence[ExampleList] = ()
    half: bool = False
