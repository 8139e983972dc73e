import pytest

from index_builder.report import charts
from index_builder.report.charts import Series
from twinspire_core.config.source_names import SOURCE_NAMES


@pytest.mark.parametrize("name", SOURCE_NAMES)
def test_every_source_has_a_colour_and_a_marker(name):
    drawn = charts.dots("slices", ["few", "many"], [Series(colour=name, values=[0.1, 0.2])], "x")
    assert f"var(--{name})" in drawn
