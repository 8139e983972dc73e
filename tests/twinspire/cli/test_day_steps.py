import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinspire.cli.main import app
from twinspire_core.errors import TwinspireError

FILE = """
pipeline = {{ name = "shop", work_root = "{0}/work", time_zone = "Asia/Tokyo" }}
source = {{ events = "{0}/events/dt={{date}}/" }}
columns = {{ user = "user", item = "item", time = "time" }}
registry = {{ root = "{0}/registry" }}
train = {{ wait = "1h" }}
[features]
user = {{ kind = "id", tower = "query" }}
item = {{ kind = "id", tower = "item" }}
"""
DAY, NEXT = "2024-03-01", "2024-03-02"


@pytest.fixture
def command(tmp_path):
    """Runs a command in a folder: its exit code, and the JSON of its last line."""

    def run(folder, name, *arguments):
        file = tmp_path / folder / "shop.toml"
        if not file.exists():
            lay_out(file)
        done = CliRunner().invoke(app, [name, str(file), *arguments])
        code = done.exit_code
        if isinstance(done.exception, TwinspireError):
            code = done.exception.exit_code
        line = done.stdout.splitlines()[-1] if done.stdout else "{}"
        return code, json.loads(line.replace(str(file.parent), "FOLDER"))

    return run


def lay_out(file: Path) -> None:
    """Logs of a day, and an empty day after it."""
    for day, rows in ((DAY, ["u,i,2024-03-01T10:00:00"]), (NEXT, [])):
        home = file.parent / f"events/dt={day}"
        home.mkdir(parents=True)
        (home / "part.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    file.write_text(FILE.format(file.parent))


AT = ("--instant", "2024-02-29T15:00:00+00:00")  # midnight in Tokyo


def test_a_day_is_open_until_it_is_closed_and_the_next_one_waits(command):
    assert command("shop", "which-day", *AT) == (
        0,
        {"stage": "which-day", "day": DAY, "state": None},
    )
    code, opened = command("shop", "open-day", *AT, "--run", "first")
    assert (code, opened["state"], opened["day"]) == (0, "open", DAY)
    assert opened["input"] == {"rows": 1, "usual_rows": None}
    code, waits = command("shop", "await-turn", "--date", NEXT)
    assert code == 75 and f"`twinspire close-day FOLDER/shop.toml --date {DAY}`" in waits["reason"]
    assert waits["waits_for"] == [DAY]
    closed = {"stage": "close-day", "day": DAY, "closed": ["first"]}
    assert command("shop", "close-day", "--date", DAY) == (0, closed)
    free = {"stage": "await-turn", "day": NEXT, "state": None}
    assert command("shop", "await-turn", "--date", NEXT) == (0, free)
