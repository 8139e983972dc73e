"""`twinspire run` of a range: what is told of its days, however they end."""

import json
from types import SimpleNamespace

import pytest

from twinspire.cli import run_days
from twinspire_core.errors import BadData


@pytest.fixture
def days(monkeypatch):
    """Days that were begun; the second one's logs are broken."""
    begun = []

    def run_day(pipeline, day, **options):
        begun.append(str(day))
        if day.day == 2:
            raise BadData("The file is cut off.")
        return {
            "day": str(day),
            "outcome": "published",
            "seconds": {},
            "version": f"{day}-v",
            "live": True,
        }

    monkeypatch.setattr(run_days, "_run_day", run_day)
    monkeypatch.setattr(run_days, "open_pipeline", lambda file: SimpleNamespace(name="shop"))
    return begun


def test_a_day_that_fails_hides_nothing_of_those_before_it(days, capsys):
    with pytest.raises(BadData, match="cut off"):
        run_days.run("shop", first="2024-03-01", last="2024-03-04")
    assert days == ["2024-03-01", "2024-03-02"]
    told = capsys.readouterr()
    one, other = json.loads(told.out)["days"]
    assert (one["outcome"], one["version"]) == ("published", "2024-03-01-v")
    assert (other["day"], other["outcome"]) == ("2024-03-02", "failed")
    assert other["reason"] == "The file is cut off."
    assert "2024-03-02 failed, and the days after it, to 2024-03-04, were not run" in told.err


def test_a_last_day_that_fails_leaves_none_out(days, capsys):
    with pytest.raises(BadData):
        run_days.run("shop", date="2024-03-02")
    told = capsys.readouterr()
    assert [day["outcome"] for day in json.loads(told.out)["days"]] == ["failed"]
    assert "were not run" not in told.err
