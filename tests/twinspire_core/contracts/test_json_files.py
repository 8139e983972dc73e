import json

import pytest

from twinspire_core.contracts.day_metrics import DayMetrics


def test_what_a_later_release_adds_is_kept():
    data = {"progressive": {"recall@50": 0.5, "of_brands": {"x": [1]}}, "weather": "fine"}
    read = DayMetrics.model_validate(data)
    assert read.progressive.values == {"recall@50": 0.5}
    assert json.loads(read.dump()) == data


def test_numbers_that_are_none_and_tiny_ones_are_written_as_python_writes_them():
    content = b'{\n "progressive": {\n  "recall@50": NaN,\n  "mrr": 1e-05\n }\n}'
    assert DayMetrics.parse(content).dump() == content


def test_a_missing_file_reads_as_none(tmp_path):
    assert DayMetrics.find(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        DayMetrics.read(str(tmp_path))
    DayMetrics(held_out_shares={"2024-05-01": 0.1}).write(tmp_path)
    assert DayMetrics.find(str(tmp_path)).held_out_shares["2024-05-01"] == 0.1
