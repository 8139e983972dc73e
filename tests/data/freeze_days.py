"""Freezes three days of a small shop whole, as this code leaves them, for later code to go on from.

    cd EMPTY_FOLDER; PYTHONPATH=CHECKOUT python -m tests.data.freeze_days

`days_0.2.0.tar.gz` then holds the logs of four days, the pipeline file's tables, and working files
and registry of the first three. Made once, before all modules were moved, and then never again.
"""

import tarfile
from datetime import date

from tests.data.freeze_work import lay_out
from twinspire.runs.day_run import DayRun
from twinspire.runs.runner import run_stage
from twinspire.runs.stages import STAGES

DAYS = tuple(date(2024, 3, n) for n in (1, 2, 3, 4))
LAST = DAYS[-1]
"""It has logs, and was not run."""


def main() -> None:
    """Runs the days and packs them."""
    pipeline = lay_out(DAYS)
    for day in DAYS[:-1]:
        for name in STAGES:
            print(run_stage(DayRun(pipeline, day), name)["status"], day, name)
    with tarfile.open("days_0.2.0.tar.gz", "w:gz") as packed:
        for name in ("pipeline.json", "events", "items", "work", "registry"):
            packed.add(name)


if __name__ == "__main__":
    main()
