"""`twinspire try` on whole logs of any kind: lists, or a clear error; and lists that find the planted taste."""

import json

import pytest

from tests import warm
from tests.any_log import grammar

FEW, MANY = range(3), range(3, 43)
ENOUGH = 30
"""Measured users from which a missed taste is no chance."""
SMALL = 50
"""Items of a catalogue that a list of 50 holds whole."""


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
    served = json.loads(out.splitlines()[-1])["days"][-1]["served"]
    items = len(set(map(str, log.rows[log.roles["item"]])))
    if served and served["users"] >= ENOUGH and items > SMALL:
        assert served["value"] > served["simple_value"], served
