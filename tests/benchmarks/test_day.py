"""The day's benchmark: its commands, what it reports of several rounds, and how ratios moved."""

import json
import sys
from datetime import date

import pytest

from benchmarks import day, processes

STUB = """#!{python}
import json, os, pathlib, sys
log = pathlib.Path(os.environ["PYTHONPATH"]) / "log.jsonl"
with log.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[3] == os.environ.get("FAILING"):
    sys.exit("what went wrong")
"""
CASE = day.Case(name="grocery", pipeline="groceries", day=date(2017, 10, 6), history=3)


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose interpreter only notes what it was asked for."""
    root = tmp_path / "before"
    (root / "pipelines").mkdir(parents=True)
    (root / "pipelines" / "groceries.toml").write_text("its own")
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.format(python=sys.executable))
    python.chmod(0o755)
    (root / "model").mkdir()
    (root / "model" / "measure_stage.py").touch()
    return processes.Checkout.at(root)


def asked(checkout):
    return [json.loads(line) for line in (checkout.root / "log.jsonl").read_text().splitlines()]


def test_the_parent_is_made_once_and_each_round_makes_the_whole_day_and_its_stages(
    checkout, tmp_path, monkeypatch
):
    def lay_out(case, folder):
        (folder / "events").mkdir(parents=True)

    monkeypatch.setattr(day, "lay_out", lay_out)
    day.measure(CASE, [checkout], 2, tmp_path / "work")
    file = str(tmp_path / "work" / "0" / "pipelines" / "groceries.toml")
    of_day = file, "--date", "2017-10-06", "--force"
    forced = [["-m", "twinspire", name, *of_day] for name in ("run", *day.STAGES)]
    parent = ["-m", "twinspire", "run", file, "--date", "2017-10-05"]
    assert asked(checkout) == [parent, *forced, *forced]


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said(checkout, monkeypatch):
    monkeypatch.setenv("FAILING", "train")
    with pytest.raises(SystemExit, match=r"what went wrong\n.*-m twinspire train.* ended with 1"):
        checkout.twinspire("train")


def test_ratios_are_cpu_seconds_in_yardsticks_and_a_rise_by_a_third_is_marked():
    def rows(metric, **of_stage):
        return [day.row(f"grocery/{name}", "x", metric, [n]) for name, n in of_stage.items()]

    now = day.ratios(rows("cpu_seconds", run=20, train=9), 4.0)
    assert [r["value"] for r in now] == [5.0, 2.25]
    before = rows("cpu_ratio", run=3.75, train=2)
    marked, unmarked = day.moved(now, before)
    assert "+33%" in marked and "rose" in marked
    assert "+12%" in unmarked and "rose" not in unmarked
    assert day.moved(now[:1], [])[0].endswith("new")
