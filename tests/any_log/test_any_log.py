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


def call(*words: object) -> tuple[int, str, str]:
    """Exit code, output and message. A traceback is an error of the test."""
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    if done.exception is None or isinstance(done.exception, SystemExit):
        return done.exit_code, done.stdout, done.stderr
    if isinstance(done.exception, TwinspireError):
        return done.exception.exit_code, done.stdout, format_message(done.exception)
    raise done.exception


def wrong(log: grammar.Log, folder: Path) -> tuple[str, int]:
    """What is wrong with the commands' answers, empty if nothing is; and the number of questions."""
    file, days = log.write(folder), folder / "logs"
    out = f"{days}/dt={{date}}/"
    options = ["--time", log.roles["time"], "--rejected", folder / "rejected.jsonl", *log.options]
    if not log.header:
        code, _, message = call("partition", file, "--out", out, *options)
        if code != UsageError.exit_code or "--columns" not in message or days.exists():
            return f"partition without a header: {code} {message}", 0
        options += ["--columns", ",".join(log.rows)]
    code, printed, message = call("partition", file, "--out", out, *options)
    if code:
        return f"partition: {message}", 0
    summary = json.loads(printed)
    rows = summary["rows"] - summary["rejected"]
    if rows != log.good:
        return f"partition kept {rows} rows, not {log.good}", 0
    toml, answers = folder / "shop.toml", []
    while True:
        code, _, message = call("init", days, "--out", toml, *answers)
        if not code:
            break
        # A question is an answer, if it offers the right column. It is answered.
        role = next(
            (r for r in ("user", "item", "time", "event") if f"is the {r}" in message), None
        )
        right = log.roles.get(str(role), "none")
        if (
            code != UsageError.exit_code
            or not role
            or f"--{role}" in answers
            or right not in message
        ):
            return f"init: {message}", len(answers) // 2
        answers += [f"--{role}", right]
    drafted = tomllib.loads(toml.read_text())
    fault = wrong_draft(log, drafted)
    if not fault:
        # A day of three events may well have no positive, and is refused.
        largest = max(days.iterdir(), key=lambda day: sum(f.stat().st_size for f in day.iterdir()))
        day = largest.name.removeprefix("dt=")
        code, _, message = call("validate", toml, "--date", day)
        fault = f"validate: {message}" if code else ""
    return fault, len(answers) // 2


def wrong_draft(log: grammar.Log, drafted: dict) -> str:
    """What is wrong with the drafted columns and features; empty if nothing is."""
    for role in ("user", "item", "time", "event"):
        column = log.roles.get(role)
        if drafted["columns"].get(role) not in (column, *(log.outcomes if role == "event" else ())):
            return f"{role} is {drafted['columns'].get(role)!r}, not {column!r}"
    for name, feature in drafted["features"].items():
        column = feature.get("column", name)
        if column in log.outcomes:
            return f"feature {name} reads the outcome {column}"
        if column in log.of_item and feature["tower"] == "query":
            return f"feature {name} of the query reads {column}, which describes the item"
    positives = set(drafted["columns"].get("positives", ()))
    if positives & (grammar.GIVEN_BACK | {"1"}):
        return f"positives are {positives}"
    return ""


@pytest.mark.parametrize("seed", SEEDS)
def test_no_log_crashes_misleads_or_leaks(seed, tmp_path):
    faults, asked = {}, 0
    for number in range(seed, seed + LOGS):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            fault, questions = wrong(grammar.draw(number), folder)
            asked += questions > 0
        except Exception as e:
            fault = f"traceback: {e!r}"
        if fault:
            faults[number] = fault.splitlines()[0][:200]
    print(*(f"{number}: {fault}" for number, fault in faults.items()), sep="\n")
    print(f"right: {LOGS - len(faults)} of {LOGS}; asked: {asked}")
    assert not faults
