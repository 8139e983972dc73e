"""`twinspire try` on whole logs of any kind: lists, or a clear error; and lists that find the planted taste."""

import json
from datetime import date

import pytest

from tests import warm
from tests.any_log import grammar
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics

FEW = (0, 1, 10)  # the last is a log of one day
MANY = [n for n in range(43) if n not in FEW]
ENOUGH = 30
"""Measured users from which a missed taste is no chance."""
POPULAR = ("most_popular", "popular_lately")


@pytest.mark.parametrize(
    "number", [*FEW, *(pytest.param(n, marks=pytest.mark.system) for n in MANY)]
)
def test_a_whole_log_gives_lists_or_a_clear_error(number, tmp_path):
    log = grammar.draw(number)
    file = log.write(tmp_path)
    named = [word for role, column in log.roles.items() for word in (f"--{role}", column)]
    without_type = [] if "event" in log.roles else ["--event", "none"]
    format_only = [word for word in log.options if word not in ("--time-unit", "s", "ms", "us")]
    words = ["--out", str(tmp_path / "out"), "--yes", "--no-serve", "--days", "2", "--json"]
    code, out, err = warm.run("try", str(file), *words, *named, *without_type, *format_only)
    assert "Traceback" not in err, err[-3000:]
    assert code in (0, 2, 3, 4), err[-3000:]
    if code:
        return
    end = json.loads(out.splitlines()[-1])
    served = end["days"][-1]["served"]
    if served and served["users"] >= ENOUGH:
        day = date.fromisoformat(served["day"])
        measure = attempts.latest(load(end["pipeline"]), day, "measure")
        baselines = DayMetrics.read(measure.uri).baselines
        popular = [baselines[name].value(served["metric"]) for name in POPULAR if name in baselines]
        assert served["value"] > max(popular) or max(popular) == 1, (served, popular)
