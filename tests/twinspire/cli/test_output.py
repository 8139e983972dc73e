import sys

import pytest
from rich.console import Console

from tests.terminal import watch
from tests.twinspire.cli.test_day_steps import FILE
from twinspire.cli.shared import terminal_table
from twinspire_core.display.table import Table


def drawn(table, width=80, **more):
    console = Console(width=width, **more)
    with console.capture() as shown:
        console.print(terminal_table(table))
    return shown.get()


def test_figures_keep_their_digits_where_names_can_give_way():
    table = Table(
        head=["on", "list", *"abcd"],
        rows=[["held out", "purchase history, decayed", *["0.1234"] * 4]],
        names=(0, 1),
    )
    text = drawn(table, width=50)
    assert text.split().count("0.1234") == 4 and "…" not in text
    assert max(map(len, text.splitlines())) <= 50


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,2024-03-01T10:00:00\n")
    (tmp_path / "shop.toml").write_text(FILE.format(tmp_path))
    return tmp_path


USER = ["--user", "u"]


def commands(shop):
    """Commands that end with a line of JSON in a pipe, and words that they end with."""
    file, out = str(shop / "shop.toml"), f"{shop}/events/dt={{date}}/"
    yield (
        ["partition", str(shop / "log.csv"), "--out", out, "--time", "time"],
        "1 rows, in 1 day from",
    )
    yield ["which-day", file, "--date", "2024-03-01"], "2024-03-01: not run yet."
    yield ["await-turn", file, "--date", "yesterday"], "found 'yesterday'."


def test_a_terminal_gets_words_and_json_only_where_it_is_asked_for(shop):
    for arguments, words in commands(shop):
        seen = watch([sys.executable, "-m", "twinspire", *arguments])
        assert words in seen.text and "{" not in seen.text, seen.text
    seen = watch([sys.executable, "-m", "twinspire", *arguments, "--json"])
    assert '"exit_code": 2' in seen.text and words in seen.text


def test_ctrl_c_at_a_question_ends_the_command(tmp_path):
    """Even though Polars, which is loaded by then, has its own handler."""
    rows = [f"{n % 7},{n % 5},2024-03-2{n % 9}" for n in range(70)]
    (tmp_path / "log.csv").write_text("\n".join(["x,y,wann", *rows, ""]))
    command = ["-m", "twinspire", "init", str(tmp_path / "log.csv")]
    seen = watch([sys.executable, *command], until="(1): ")
    assert seen.code == 130, seen.text


def test_loading_is_shown_to_a_terminal_from_the_beginning(shop):
    seen = watch([sys.executable, "-m", "twinspire", "recommend", str(shop / "shop.toml"), *USER])
    first, *_ = seen.text.strip().splitlines()
    assert "loading the libraries … 0 s" in first and "no live version" in seen.text, seen.text
