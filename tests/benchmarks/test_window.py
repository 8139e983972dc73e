"""The table of the benchmark of windows."""

import json

from benchmarks import window


def test_a_further_day_is_what_the_longer_window_adds():
    rows = [
        {"way": "raw", "window": 30, "cpu_seconds": 2.0},
        {"way": "raw", "window": 130, "cpu_seconds": 4.0},
    ]
    line = window.table({"rows": rows, "load": 1.0}).splitlines()[2]
    assert line == f"| {window.WAYS['raw']} | 2.0 | 4.0 | 2.00 | 20.0 ms |"


def test_the_pages_table_is_of_the_committed_figures():
    told = json.loads(window.RESULTS.read_text())
    between = window.PAGE.read_text().split(window.BEGIN)[1].split(window.END)[0]
    assert between.strip() == window.table(told)
    assert {row["way"] for row in told["rows"]} == set(window.WAYS)
