import sys

from rich.console import Console

from tests.terminal import watch
from twinspire.cli.shared import terminal_table
from twinspire_core.display.table import Table


def test_figures_keep_their_digits_where_names_can_give_way():
    table = Table(
        head=["on", "list", *"abcd"],
        rows=[["held out", "purchase history, decayed", *["0.1234"] * 4]],
        names=(0, 1),
    )
    console = Console(width=50)
    with console.capture() as shown:
        console.print(terminal_table(table))
    text = shown.get()
    assert text.split().count("0.1234") == 4 and "…" not in text
    assert max(map(len, text.splitlines())) <= 50


def test_a_terminal_gets_words_and_json_only_where_it_is_asked_for(shop_file, tmp_path):
    log, out = tmp_path / "log.csv", f"{tmp_path}/events/dt={{date}}/"
    log.write_text("user,item,time\nu,i,2024-03-01T10:00:00\n")
    for arguments, words in (
        (["partition", str(log), "--out", out, "--time", "time"], "1 rows, in 1 day from"),
        (["which-day", str(shop_file), "--date", "2024-03-01"], "2024-03-01: not run yet."),
        (["await-turn", str(shop_file), "--date", "yesterday"], "found 'yesterday'."),
    ):
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


def test_loading_is_shown_to_a_terminal_from_the_beginning(shop_file):
    command = ["-m", "twinspire", "recommend", str(shop_file), "--user", "u"]
    seen = watch([sys.executable, *command])
    first, *_ = seen.text.strip().splitlines()
    assert "loading the libraries … 0 s" in first and "no live version" in seen.text, seen.text
