"""How a pipeline is named on the command line, and in what the commands say."""

import subprocess
import sys

import pytest

from twinspire.cli.options import open_pipeline
from twinspire_core.errors import UsageError
from twinspire_core.messages import format_message, name_pipeline


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_unknown_name_lists_those_there_are(here):
    (here / "pipelines").mkdir()
    for name in ("shop", "news"):
        (here / f"pipelines/{name}.toml").write_text("")
    with pytest.raises(
        UsageError, match=r"'shp' is neither. There are: news, shop; did you mean 'shop'\?"
    ):
        open_pipeline("shp")
    with pytest.raises(UsageError, match=r"There are: news, shop\.$"):
        open_pipeline("elsewhere/zzz")


def test_in_another_folder_it_says_where_it_looked(here):
    with pytest.raises(
        UsageError, match=rf"{here}/pipelines; 'shop' is neither: there are no pipeline files"
    ):
        open_pipeline("shop")
    with pytest.raises(UsageError, match=r"cannot read shop\.toml: No such file"):
        open_pipeline("shop.toml")


def test_commands_in_messages_name_the_pipeline_as_it_was_typed():
    name_pipeline("my shop.toml")
    assert (
        format_message("a `twinspire show PIPELINE --json`, PIPELINE")
        == "a `twinspire show 'my shop.toml' --json`, PIPELINE"
    )
    name_pipeline("PIPELINE")


def test_also_in_errors_of_what_knows_no_command_line(here):
    (here / "shop.toml").write_text(
        """
        [pipeline]
        name = "shop"
        [source]
        events = "events/dt={date}/"
        [columns]
        user = "user"
        item = "item"
        time = "time"
        [features]
        user = { kind = "id", tower = "query" }
        item = { kind = "id", tower = "item" }
        """
    )
    for arguments, command in {
        (
            "train",
            "shop.toml",
            "--date",
            "2024-03-01",
        ): "`twinspire features shop.toml --date 2024-03-01`",
        ("rollback", "shop.toml"): "`twinspire versions shop.toml`",
    }.items():
        done = subprocess.run(
            [sys.executable, "-m", "twinspire", *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2 and command in done.stderr, done.stderr
