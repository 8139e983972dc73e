import numpy as np
import pytest

from twinspire_core.metrics.measure_names import names
from twinspire_core.metrics.slices import slice_of


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((1, 5, 20), ["0", "1-4", "5-19", "20+"]),
        ((1,), ["0", "1+"]),
        ((5, 6), ["0-4", "5", "6+"]),
        ((2, 3, 10), ["0-1", "2", "3-9", "10+"]),
    ],
)
def test_names_say_what_lies_inside(bounds, expected):
    assert names(bounds) == expected
    for events in range(30):
        name = expected[slice_of(np.array([events]), bounds)[0]]
        low, _, high = name.rstrip("+").partition("-")
        assert int(low) <= events
        assert name.endswith("+") or events <= int(high or low)
