"""`partition`, `init` and `validate` on logs of any kind: the right columns, or a question; never a traceback,
another item or a feature that leaks.
"""

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.any_log import grammar
from twinspire.cli.main import app
from twinspire_core.errors import TwinspireError, UsageError, format_message

SEEDS = (0, 1000, 2000)
LOGS = 40
KNOWN = {29, 2021}
"""Logs that fail: their event types are in a column whose name and words are in no list."""


def call(*words: object) -> tuple[int, str, str]:
    """Exit code, output and message. A traceback is an error of the test."""
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    if done.exception is None or isinstance(done.exception, SystemExit):
        return done.exit_code, done.stdout, done.stderr
    if isinstance(done.exception, TwinspireError):
        return done.exception.exit_code, done.stdout, format_message(done.exception)
    raise done.exception


def wrong(log: grammar.Log, folder: Path) -> str:
    """What is wrong with the commands' answers; empty if nothing is."""
    file, days = log.write(folder), folder / "logs"
    out = f"{days}/dt={{date}}/"
    options = ["--time", log.roles["time"], "--rejected", folder / "rejected.jsonl"]
    code, printed, message = call("partition", file, "--out", out, *options, *log.options)
    if code:
        return f"partition: {message}"
    summary = json.loads(printed)
    rows = summary["rows"] - summary["rejected"]
    toml = folder / "shop.toml"
    code, _, message = call("init", days, "--out", toml)
    if code:
        # A question is an answer, if it offers the right column
        roles = [role for role in log.roles if f"is the {role}" in message]
        if code == UsageError.exit_code and roles and log.roles[roles[0]] in message:
            return "" if rows == log.good else f"partition kept {rows} rows, not {log.good}"
        return f"init: {message}"
    drafted = tomllib.loads(toml.read_text())
    for role, column in log.roles.items():
        if drafted["columns"].get(role) != column:
            return f"{role} is {drafted['columns'].get(role)!r}, not {column!r}"
    for name, feature in drafted["features"].items():
        column = feature.get("column", name)
        if column in log.outcomes:
            return f"feature {name} reads the outcome {column}"
        if column in log.of_item and feature["tower"] == "query":
            return f"feature {name} of the query reads {column}, which describes the item"
    positives = set(drafted["columns"].get("positives", ()))
    if positives & grammar.GIVEN_BACK:
        return f"positives are {positives}"
    if rows != log.good:
        return f"partition kept {rows} rows, not {log.good}"
    newest = max(day.name.removeprefix("dt=") for day in days.iterdir())
    code, _, message = call("validate", toml, "--date", newest)
    return f"validate: {message}" if code else ""


@pytest.mark.parametrize("seed", SEEDS)
def test_no_log_crashes_misleads_or_leaks(seed, tmp_path):
    faults = {}
    for number in range(seed, seed + LOGS):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            fault = wrong(grammar.draw(number), folder)
        except Exception as e:
            fault = f"traceback: {e!r}"
        if fault:
            faults[number] = fault.splitlines()[0][:200]
    print(*(f"{number}: {fault}" for number, fault in faults.items()), sep="\n")
    assert faults.keys() <= KNOWN, faults
