"""Charts as SVG."""

import re
from datetime import timedelta

import numpy as np
import pytest

from index_builder.report import charts
from index_builder.report.charts import COLOURS
from index_builder.report.page import render
from tests.index_builder.report.pages import FIRST
from twinspire_core.display.pages import style


def test_every_colour_is_defined_for_light_and_dark(facts):
    light, dark = re.findall(r":root \{(.*?)\}", style(charts.__package__), re.S)
    for scheme in (light, dark):
        assert set(re.findall(r"var\(--([\w-]+)\)", render(facts).decode())) - {"c"} <= set(
            re.findall(r"--(\w+):", scheme)
        )
        used = re.findall(r"var\(--([\w-]+)\)", style("serving.inspector"))
        assert set(used) - {"c"} <= set(re.findall(r"--(\w+):", scheme))
        assert set(COLOURS) <= set(re.findall(r"--(\w+):", scheme))
    assert not re.findall("|".join(COLOURS.values()), render(facts).decode()), (
        "no placeholder is left"
    )


def path_points(svg, colour, with_=""):
    """Places of the lines of a colour, in units of the picture."""
    drawn = re.findall(
        rf'<path d="([^"]*)"[^>]*fill="none"[^>]*{with_}[^>]*stroke="var\(--{colour}\)"', svg
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
