"""Charts as SVG."""

import re
from datetime import timedelta
from importlib.resources import files

import numpy as np
import pytest

from index_builder.report import charts
from index_builder.report.charts import COLOURS
from index_builder.report.page import render
from tests.index_builder.report.pages import FIRST


def test_every_colour_is_defined_for_light_and_dark(facts):
    light, dark = re.findall(
        r":root \{(.*?)\}", files(charts.__package__).joinpath("page.css").read_text(), re.S
    )
    for scheme in (light, dark):
        assert set(re.findall(r"var\(--([\w-]+)\)", render(facts).decode())) - {"c"} <= set(
            re.findall(r"--(\w+):", scheme)
        )
        assert set(COLOURS) <= set(re.findall(r"--(\w+):", scheme))
    assert not re.findall("|".join(COLOURS.values()), render(facts).decode()), (
        "no placeholder is left"
    )


def path_points(svg, colour, with_=""):
    """Places of the lines of a colour, in units of the picture."""
    drawn = re.findall(
        rf'<path d="([^"]*)"[^>]*style="fill: none;[^"]*{with_}[^"]*stroke: var\(--{colour}\)', svg
    )
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for d in drawn]


def test_lines_are_where_their_values_are():
    days = [FIRST + timedelta(days=n) for n in (0, 1, 3)]
    values = [0.1, 0.3, 0.2]
    (points,) = path_points(
        charts.by_day("t", days, [charts.Series(colour="purchase_history", values=values)], "x"),
        "purchase_history",
    )
    x, y = points.T
    assert (x[1] - x[0]) * 2 == pytest.approx(x[2] - x[1], rel=1e-3), "a missing day leaves a gap"
    assert (y[0] - y[1]) / (y[2] - y[1]) == pytest.approx((0.3 - 0.1) / (0.3 - 0.2), rel=1e-3)
    assert y[1] < y[2] < y[0], "up is more"


def test_no_line_leads_to_a_day_whose_figures_do_not_compare():
    days = [FIRST + timedelta(days=n) for n in range(4)]
    series = [charts.Series(colour="purchase_history", values=[0.1, 0.3, 0.2, 0.1])]
    lines = path_points(charts.by_day("t", days, series, "x", [3]), "purchase_history")
    assert [len(one) for one in lines] == [3, 1]
    (whole,) = path_points(charts.by_day("t", days, series, "x"), "purchase_history")
    assert len(whole) == 4


def test_right_estimates_lie_on_the_diagonal():
    svg = charts.against("t", [0.5, 0.05, 0.005], [0.5, 0.1, 0.005], ("true", "estimated"))
    (line,) = path_points(svg, "muted", "stroke-dasharray")
    slope, at = np.polyfit(line[:, 0], line[:, 1], 1)
    dots = np.array(
        re.findall(r'<use [^>]*x="(\S+)" y="(\S+)"[^>]*fill: var\(--two_tower\)', svg), float
    )
    off = dots[:, 1] - (slope * dots[:, 0] + at)
    assert len(dots) == 3 and abs(off[[0, 2]]).max() < 0.01 and off[1] < -5, (
        "a point above is estimated too high"
    )


def test_the_line_of_recall_and_latency_has_the_settings_that_none_beats():
    x, y = [3.0, 1.0, 2.0, 1.0, 4.0, 5.0], [0.9, 0.5, 0.8, 0.6, 0.7, 0.95]
    # By trying all: no other point has at most its cost and at least its recall.
    beaten = [
        any((a, b) != (c, d) and c <= a and d >= b for c, d in zip(x, y, strict=True))
        for a, b in zip(x, y, strict=True)
    ]
    assert charts.frontier(x, y) == sorted(
        (i for i in range(6) if not beaten[i]), key=lambda i: x[i]
    )
    svg = charts.tradeoff("t", x, y, None, 0.9, ("ms", "recall"))
    lines = path_points(svg, "parent")
    assert any(
        len(points) == 4 and (np.diff(points[:, 0]) > 0).all() and (np.diff(points[:, 1]) < 0).all()
        for points in lines
    )
