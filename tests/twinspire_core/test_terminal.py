import subprocess
import sys

from tests.terminal import watch
from twinspire_core.terminal import out

WORK = """
import os, sys, time
from twinspire_core.native_code import suppress_native_stderr
from twinspire_core.terminal import console, doing

with doing("loading"):
    with suppress_native_stderr():  # as around TensorFlow's import
        os.write(2, b"native noise\\n")
        print("noise of Python", file=sys.stderr)
        time.sleep(0.6)
    with doing("reading") as update:
        time.sleep(0.3)
        update("writing")
        time.sleep(0.3)
        console.print("[half] of urn:book:3 done")
print('{"last": "line"}')
"""


def test_a_terminal_sees_a_line_that_moves_while_native_libraries_are_kept_quiet():
    seen = watch([sys.executable, "-c", WORK])
    assert seen.code == 0, seen.text
    frames = [text for _, text in seen.outputs]
    assert sum("loading" in frame for frame in frames) >= 3
    assert "reading" in seen.text and "writing" in seen.text and "noise" not in seen.text
    # What is said is above the line, which is gone at the end.
    lines = [line.strip() for line in seen.text.splitlines() if line.strip()]
    assert "[half] of urn:book:3 done" in lines and lines[-1] == '{"last": "line"}'


def test_a_pipe_sees_nothing_of_it():
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('{"last": "line"}\n', "[half] of urn:book:3 done\n")


def test_what_was_asked_for_is_shown_as_it_is(capsys):
    """Ids and commands with what Rich takes for emojis and markup elsewhere."""
    out.print("[bold] shop:id:7 urn:book:3")
    assert capsys.readouterr().out == "[bold] shop:id:7 urn:book:3\n"


def test_a_terminal_that_is_not_of_unicode_has_no_line():
    seen = watch(["env", "PYTHONIOENCODING=ascii", sys.executable, "-c", WORK])
    assert (
        seen.code == 0 and "loading" not in seen.text and "[half] of urn:book:3 done" in seen.text
    ), seen.text
