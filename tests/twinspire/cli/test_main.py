import sys

import pytest

from twinspire.cli import main


@pytest.mark.parametrize("typed", [one.split() for one in main.REMOVED])
def test_what_was_removed_says_what_to_do_instead(typed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twinspire", *typed])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "was removed. Instead: " in capsys.readouterr().err
