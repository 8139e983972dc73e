"""Axes to draw into, which become inline SVG: matplotlib draws in placeholder colours, and the page's CSS
says which these are.

A chart is `WIDTH` units wide, a phone's width, so that its text is as large as the page's there.
Text stays text.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH = 360
HEIGHT = 220

NAMES = (
    "ink",
    "muted",
    "grid",
    "two_tower",
    "parent",
    "mix",
    "popular",
    "most_popular",
    "popular_lately",
    "past",
    "co_occurrence",
    "uncorrected",
    "clicks",
    "target",
    "personal",
    "trending",
    "user_neighbours",
    "session_neighbours",
    "co_visitation",
    "ease",
    "ials",
    "ranked",
    "served",
    "simple",
)
COLOURS = {name: f"#{0xABC000 + number:06x}" for number, name in enumerate(NAMES)}
"""Placeholders by name; `var(--NAME)` of the page replaces them."""

_POINT = 72.0
_STYLE: Any = {
    # Text stays text: it is searched, read aloud, and set in the font of the page
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


@contextmanager
def svg_figure(name: str, height: int = HEIGHT) -> Iterator[tuple[Axes, list[str]]]:
    """Yields axes to draw into, and a list that holds the SVG afterwards."""
    svg: list[str] = []
    # Ids follow from the salt: without one, equal charts would be different bytes
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name, "svg.id": name}):
        figure = Figure(figsize=(WIDTH / _POINT, height / _POINT), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        yield axes, svg
        written = io.StringIO()
        # Not `savefig`, which draws all twice, once only for the layout. No clock time and no
        # release of matplotlib in it, for equal bytes again.
        FigureCanvasSVG(figure).print_svg(
            written, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg.append(_inline(written.getvalue()))


def _inline(written: str) -> str:
    """An SVG file's text as part of a page: no prologue, the page's font, ids only where they are
    referred to.
    """
    text = written[written.index("<svg") :]
    # Ids of many charts share a page: what nobody refers to needs none
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
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
