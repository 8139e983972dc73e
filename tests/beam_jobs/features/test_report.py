"""Counts of the features job: added up by what they count, written once, and gone once they are read."""

from datetime import date

import pytest

from beam_jobs.features.report import COUNTERS, Counted, Counters, count
from twinspire_core.errors import UsageError

DAY = date(2024, 5, 1)


def test_they_are_read_once(tmp_path):
    Counters([count(Counted.TYPES, "events", DAY, 2, "a\tb")]).write(str(tmp_path))
    counters = Counters.take(str(tmp_path))
    assert counters.of(Counted.TYPES, "events", DAY, "a\tb") == 2
    assert not (tmp_path / COUNTERS).exists()
    with pytest.raises(UsageError, match="Every worker must see"):
        Counters.take(str(tmp_path))
