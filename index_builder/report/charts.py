"""The charts of a report as inline SVG. Matplotlib draws in placeholder colours; the page's CSS defines them.

A chart is `WIDTH` units wide, like a phone, so that on a phone its text has the size of the page's text.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import date2num, num2date
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH = 360
HEIGHT = 220

NAMES = (
    "ink",
    "muted",
    "grid",
    "two_tower",
    "parent",
    "fixed_order",
    "popular",
    "most_popular",
    "popular_lately",
    "purchase_history",
    "co_occurrence",
    "uncorrected",
    "clicks",
    "history",
    "neighbours",
    "ranked",
    "served",
    "simple",
)
COLOURS = {name: f"#{0xABC000 + number:06x}" for number, name in enumerate(NAMES)}
"""Placeholders by name. In the page, `var(--NAME)` takes their place."""

_POINT = 72.0
_STYLE: Any = {
    # Text stays text, which can be searched and read aloud, in the font of the page.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": COLOURS["muted"],
    "axes.linewidth": 0.8,
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 11,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}
# Markers distinguish lines without colours.
_MARKERS = dict(zip(NAMES[3:], "oPXsSD^vd*Hp<>DsP", strict=False)) | {"most_popular": "s"}
_STEPS = [1, 2, 2.5, 5, 10]  # between ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, or one row of dots.

    Attributes:
      colour: one of `NAMES`.
      values: [N] values, None where there is none.
      spans: [N] intervals of the values, None where there is none.
    """

    colour: str
    values: Sequence[float | None]
    spans: Sequence[tuple[float, float] | None] = ()
    dashed: bool = False

    @property
    def ink(self) -> str:
        """The colour; a user-defined source has the colour of simple lists."""
        return COLOURS.get(self.colour, COLOURS["simple"])

    @property
    def marker(self) -> str:
        """The form of its points."""
        return _MARKERS.get(self.colour, _MARKERS["simple"])


def by_day(
    name: str,
    days: Sequence[date],
    series: Sequence[Series],
    label: str,
    breaks: Sequence[int] = (),
) -> str:
    """Lines over ascending days, with a band for the intervals.

    Args:
      name: name of the chart, unique on the page.
      label: the measure, which stands above the axis.
      breaks: numbers of the days where lines start again, because earlier figures do not compare.
    """
    with _svg_figure(name, ("", label)) as (axes, svg):
        at = date2num(list(days))
        # From the last to the first, so that the first line is on top
        for line in reversed(series):
            # NaN leaves a gap in the line.
            values = np.array([np.nan if v is None else v for v in line.values])
            for start, end in pairwise([0, *breaks, len(at)]):
                _band(axes, at[start:end], line.spans[start:end], line.colour)
                axes.plot(at[start:end], values[start:end], **_line(line))
        for position in breaks:
            middle = (at[position - 1] + at[position]) / 2
            axes.axvline(middle, color=COLOURS["muted"], lw=1, ls=(0, (1, 2)))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{num2date(v):%-d %b}"))
        axes.set_xlim(at.min() - 0.4, at.max() + 0.4)
        axes.xaxis.grid(False)
        # From 0, so that a small change does not look like a large one
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    return svg[0]


def dots(name: str, categories: Sequence[str], series: Sequence[Series], label: str) -> str:
    """A row for each category, with a dot for each list and its interval."""
    height = 50 + len(categories) * (14 + 9 * len(series))
    with _svg_figure(name, (label, ""), height) as (axes, svg):
        shift = np.linspace(-0.32, 0.32, len(series)) if len(series) > 1 else [0.0]
        for offset, dots_of_list in zip(shift, series, strict=True):
            _dots_of(axes, dots_of_list, float(offset))
        for row in range(len(categories)):
            # A row without dots says so; otherwise it would look like a bug of the chart.
            if all(of_list.values[row] is None for of_list in series):
                at = ("axes points", "data")
                axes.annotate("none", (4, row), xycoords=at, va="center", color=COLOURS["muted"])
        axes.set_yticks(range(len(categories)), categories)
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.yaxis.grid(False)
        for edge in range(1, len(categories)):
            axes.axhline(edge - 0.5, color=COLOURS["grid"], lw=0.8)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    return svg[0]


def _dots_of(axes: Axes, of_list: Series, offset: float) -> None:
    """One list's dots, `offset` rows below the middle of each category's row."""
    colour = of_list.ink
    spans = of_list.spans or [None] * len(of_list.values)
    for at, (value, span) in enumerate(zip(of_list.values, spans, strict=True)):
        height = at + offset
        if value is not None and span:
            axes.plot(span, [height] * 2, lw=1.4, solid_capstyle="butt", color=colour)
        if value is not None:
            axes.plot([value], [height], marker=of_list.marker, ms=5.5, ls="", color=colour)


def groups(
    name: str,
    categories: Sequence[str],
    bars: Series,
    series: Sequence[Series],
    labels: tuple[str, str],
) -> str:
    """Bars of shares, and lines over them."""
    with _svg_figure(name, labels) as (axes, svg):
        at = np.arange(len(categories))
        axes.bar(at, [v or 0 for v in bars.values], 0.8, color=COLOURS[bars.colour], alpha=0.35)
        for line in series:
            axes.plot(at, [v or 0 for v in line.values], **_line(line))
        axes.set_xticks(at, categories)
        axes.xaxis.grid(False)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    return svg[0]


def curve(name: str, x: Sequence[float], y: Sequence[float], labels: tuple[str, str]) -> str:
    """One line over numbers."""
    with _svg_figure(name, labels) as (axes, svg):
        axes.plot(x, y, color=COLOURS["two_tower"], marker="o" if len(x) < 3 else "")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.xaxis.grid(False)
    return svg[0]


def _line(line: Series) -> dict[str, Any]:
    return {
        "color": line.ink,
        "ls": (0, (4, 2)) if line.dashed else "-",
        "marker": line.marker,
    }


def _band(
    axes: Axes, at: np.ndarray, spans: Sequence[tuple[float, float] | None], colour: str
) -> None:
    ends = [span or (np.nan, np.nan) for span in spans]
    if ends and not np.isnan(ends).all():
        low, high = np.array(ends).T
        axes.fill_between(at, low, high, color=COLOURS[colour], alpha=0.18, lw=0)


@contextmanager
def _svg_figure(
    name: str, labels: tuple[str, str], height: int = HEIGHT
) -> Iterator[tuple[Axes, list[str]]]:
    """Yields axes to draw into, and a list that holds the SVG afterwards."""
    svg: list[str] = []
    # Ids are derived from the salt. Without a salt, equal charts would differ in their bytes.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name, "svg.id": name}):
        figure = Figure(figsize=(WIDTH / _POINT, height / _POINT), layout="constrained")
        # The page is light or dark, so the chart's background is transparent
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        yield axes, svg
        axes.set_xlabel(labels[0])
        # Above the vertical axis, where the label is horizontal.
        axes.set_title(labels[1], loc="left", fontsize=11, color=COLOURS["muted"], pad=8, x=0)
        written = io.StringIO()
        # Not `savefig`, which draws everything twice for the layout. Metadata is left out because it
        # would put the time and the release of matplotlib into the bytes.
        FigureCanvasSVG(figure).print_svg(
            written, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg.append(_inline(written.getvalue()))


def _inline(written: str) -> str:
    """The text of an SVG file as part of a page: without prologue, fonts, and ids that nothing uses."""
    text = written[written.index("<svg") :]
    # Many charts share a page, and their ids must not clash. Unused ids are removed.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    # Attributes, because the inspector's policy allows no styles of elements
    text = re.sub(
        r'style="([^"]*)"',
        lambda match: re.sub(r"([\w-]+): ([^;]*)(; )?", r'\1="\2" ', match[1]).rstrip(),
        text,
    )
    text = re.sub(
        r'<svg .*?viewBox="([^"]+)".*?>',
        r'<svg viewBox="\1" aria-hidden="true">',
        text,
        count=1,
        flags=re.S,
    )
    for colour, value in COLOURS.items():
        text = text.replace(value, f"var(--{colour})")
    return re.sub(r">\s+<", "><", text).strip()
