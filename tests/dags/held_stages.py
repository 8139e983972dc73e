"""`python held_stages.py -m twinspire …`: the real command line and stages, but one stage of each day
is held in the middle: what it makes is made, and not committed.

The stage is the one after which the pipeline is called. In $HELD_STAGES it writes its pid into a file
DAY/STAGE, and goes on when there is DAY/go. Tries after the first are not held.
"""

import os
import sys
import time
from pathlib import Path

from twinspire.cli.main import main
from twinspire_core.contracts import attempts

_commit = attempts.commit


def hold(stage: str, day: str) -> None:
    """Returns when the day's stages may go on."""
    home = Path(os.environ["HELD_STAGES"], day)
    home.mkdir(exist_ok=True)
    try:
        with (home / stage).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    while not (home / "go").exists():
        time.sleep(0.1)


def commit(attempt: attempts.Attempt) -> None:
    """Instead of `attempts.commit`."""
    stage, file, option, day = sys.argv[1:5]
    if Path(file).stem == stage and option == "--date":
        hold(stage, day)
    _commit(attempt)


if __name__ == "__main__":
    sys.argv = ["twinspire", *sys.argv[3:]]
    attempts.commit = commit
    main()
