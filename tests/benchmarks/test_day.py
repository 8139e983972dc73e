"""The day's benchmark: what it tells of several rounds."""

from datetime import date

import day
import pytest


@pytest.fixture
def asked(monkeypatch):
    """The commands that the benchmark runs: they do nothing, and what each took is made up."""
    rounds, asked = {stage: iter((3.0, 1.0, 5.0)) for stage in day.STAGES}, []

    def twinspire(command, *arguments, env):
        asked.append((command, "--force" in arguments))
        seconds = next(rounds[command]) if command in rounds else 99.0
        return {}, seconds, 100 * seconds

    monkeypatch.setattr(day, "twinspire", twinspire)
    return asked


def test_rounds_are_told_by_their_median_and_range(asked, tmp_path):
    rows = day.measure(date(2017, 10, 4), 3, 3, tmp_path)
    told = {(row["case"], row["metric"]): (row["value"], row["low"], row["high"]) for row in rows}
    assert told == {
        **{(stage, "seconds"): (3.0, 1.0, 5.0) for stage in day.STAGES},
        **{(stage, "peak_mb"): (300.0, 100.0, 500.0) for stage in day.STAGES},
        ("all", "seconds"): (15.0, 5.0, 25.0),
    }
    before = [("partition", False), ("run", False), ("day", False)]
    assert asked == before + 3 * [(stage, True) for stage in day.STAGES], "each round does all stages over"
