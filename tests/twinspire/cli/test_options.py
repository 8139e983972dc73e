import os
import re
import subprocess
import sys

import pytest
from typer import BadParameter, Exit
from typer.main import get_command
from typer.testing import CliRunner

from tests.twinspire.conftest import FILE
from twinspire.cli import main
from twinspire.cli.main import app
from twinspire.cli.shared import open_pipeline
from twinspire_core.errors import TwinspireError, UsageError


@pytest.fixture
def here(shop_file, tmp_path, monkeypatch):
    """The working folder, with a pipeline file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_unknown_name_lists_those_there_are(here):
    (here / "pipelines").mkdir()
    for name in ("shop", "news"):
        (here / f"pipelines/{name}.toml").write_text("")
    for name, end in (("shp", r"; did you mean 'shop'\?$"), ("elsewhere/zzz", r"\.$")):
        with pytest.raises(UsageError, match=rf"{name}.*Name one of these: news, shop{end}"):
            open_pipeline(name)


def refusal(monkeypatch, capsys, *typed):
    """What a wrong command prints."""
    monkeypatch.setattr(sys, "argv", ["twinspire", *typed])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("value", ["abc", "-99999999", "1e999", "nan", ""])
def test_wrong_values_of_options_are_named_with_the_rule(value):
    messages = {}
    for name, command in get_command(app).commands.items():
        for option in (param.opts[0] for param in command.params if param.opts[0][0] == "-"):
            try:
                command.make_context(name, ["file", "other", f"{option}={value}"])
            except BadParameter as error:
                if error.message:  # else another option is missing
                    messages[name, option] = error.message
            except (*BadParameter.__bases__, TwinspireError, Exit):
                pass
    assert len(messages) > 10
    for message in messages.values():
        assert not re.search("Input should|unable to parse|Value error", message), message
        assert repr(value) in message or "at " in message, message


def test_also_in_errors_of_what_knows_no_command_line(here, monkeypatch, capsys):
    features = "`twinspire features shop.toml --date 2024-03-01`"
    for arguments, command in (
        (("train", "shop.toml", "--date", "2024-03-01"), features),
        (("rollback", "shop.toml"), "`twinspire versions shop.toml`"),
    ):
        assert command in " ".join(refusal(monkeypatch, capsys, *arguments).split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("partition", "ftp://logs/a.csv", "--out", "events/{date}", "--time", "t"),
        ("partition", "a.csv", "--out", "ftp://logs/events", "--time", "t"),
        ("init", "ftp://logs/events"),
        ("init", "a.csv", "--items", "ftp://logs/items.csv"),
        ("init", "a.csv", "--out", "ftp://logs/shop.toml"),
        ("evaluate", "shop.toml", "--truth", "ftp://logs/truth", "--recs", "a.csv"),
        ("evaluate", "shop.toml", "--truth", "a.csv", "--recs", "ftp://logs/recs"),
        ("status", "lake.toml"),
    ],
)
def test_a_place_on_an_unknown_store_is_no_folder(here, arguments):
    (here / "a.csv").write_text("user,item,t\nu1,i1,2024-03-01T00:00:00\n")
    (here / "lake.toml").write_text(FILE.format("ftp://lake"))
    before = sorted(here.rglob("*"))
    done = CliRunner().invoke(app, [*arguments])
    assert isinstance(done.exception, UsageError), done.output
    rule = r"A path must be local or gs://BUCKET/NAME|files on this machine"
    assert re.search(rf"({rule}).*; found ftp:/", str(done.exception))
    assert sorted(here.rglob("*")) == before, "nothing was written"


# What NumPy's threads do between matrix products.
IDLE = """
import time
from twinspire.cli import main as cli

def rest():
    import numpy as np
    matrix, used = np.ones((512, 512), np.float32), 0.0
    for _ in range(20):
        matrix @ matrix
        before = time.process_time()
        time.sleep(0.03)
        used += time.process_time() - before
    print(used)

cli.app = rest
cli.main()
"""


def test_no_thread_of_matrix_products_spins_when_there_is_nothing_to_multiply():
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    done = subprocess.run(
        [sys.executable, "-c", IDLE], env=env, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 0.04  # some .4 where they spin


def test_an_empty_user_is_refused(monkeypatch, capsys):
    error = refusal(monkeypatch, capsys, "recommend", "shop.toml", "--user", "")
    assert "--user must be a user's id; it is empty" in error


@pytest.mark.parametrize("command", [("recommend", "--user"), ("similar", "--item")])
def test_an_id_that_is_no_utf8_is_refused(command, monkeypatch, capsys):
    name, option = command
    error = refusal(monkeypatch, capsys, name, "shop.toml", option, os.fsdecode(b"u\xff"))
    assert r"must be UTF-8; found 'u\udcff'" in error
