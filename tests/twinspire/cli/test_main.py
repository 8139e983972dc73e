"""How the command ends."""

import subprocess
import sys

import pytest

from twinspire.cli import main

CYCLE = """
import datasketches
from twinspire.cli import main

def app():
    cycle = [datasketches.hll_union(11)]
    cycle.append(cycle)

main.app = app
main.main()
"""


def test_sketches_in_cycles_are_gone_before_their_library_looks_for_them():
    """It tells each object that it misses, and all its functions, in hundreds of lines."""
    ended = subprocess.run([sys.executable, "-c", CYCLE], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("typed", [one.split() for one in main.REMOVED])
def test_what_was_removed_says_what_to_do_instead(typed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twinspire", *typed])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "was removed. Instead: " in capsys.readouterr().err
