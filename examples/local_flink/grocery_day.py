"""A day of the grocery data, its features and vectors made twice: in process, and on a cluster."""

import os
import re
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from rich.console import Console

from examples.grocery_demo import groceries
from examples.local_flink.parts import ROOT
from twinspire_core.config import pipeline as pipelines
from twinspire_core.contracts import attempts
from twinspire_core.errors import TwinspireError

DAY = date(2017, 10, 2)
SHORT = {"train_days": 14, "personal_days": 60, "epochs": 1}
"""Changes to the demo's pipeline file. Only equal bytes matter here, not quality."""


class StageFailed(TwinspireError):
    """A stage that was to be compared did not succeed."""


class GroceryDay:
    """The day in a folder of its own.

    Attributes:
      took: by stage and place: seconds by the clock, and CPU seconds of the stage's process.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        """Lays the data out, where `make demo` does, and empties the folder."""
        self.folder = folder
        self.console = console
        self.took: dict[tuple[str, str], tuple[float, float]] = {}
        groceries.lay_out(ROOT / "pipelines" / "groceries.toml", console)
        shutil.rmtree(folder, ignore_errors=True)

    def prepare(self) -> None:
        """Runs the stages before embedding in process, and copies them for the cluster."""
        self._write("in process", [])
        for stage in ("features", "train", "measure"):
            self._run("in process", stage)
        shutil.copytree(self.folder / "in process", self.folder / "Flink")
        self._run("in process", "embed")

    def redo(self, stage: str, options: list[str]) -> None:
        """Runs a stage again on a cluster, from the logs themselves."""
        self._write("Flink", options)
        # The copied caches would spare the cluster from reading the logs
        partials = attempts.partials_folder(pipelines.load(self._file("Flink")))
        shutil.rmtree(partials, ignore_errors=True)
        self._run("Flink", stage, "--force")

    def output(self, place: str, stage: str) -> Path:
        """The folder of a stage's output."""
        found = attempts.latest(pipelines.load(self._file(place)), DAY, stage)
        if found is None:
            raise StageFailed(f"The stage {stage} succeeded but left no output ({place}).")
        return Path(found.uri)

    def _file(self, place: str) -> Path:
        return self.folder / place / "groceries.toml"

    def _write(self, place: str, options: list[str]) -> None:
        """The demo's pipeline file with places of its own, fewer days and little training."""
        text = (ROOT / "pipelines" / "groceries.toml").read_text()
        # These two first: the third replaces every other path below ../work.
        text = text.replace('"../work/stages"', f'"{self.folder / place / "stages"}"')
        text = text.replace('"../work/registry"', f'"{self.folder / place / "registry"}"')
        text = text.replace('"../work/', f'"{ROOT / "work"}/')
        for key, value in SHORT.items():
            text = re.sub(rf"(?m)^{key} = \w+", f"{key} = {value}", text)
        words = ",\n  ".join(f'"{word}"' for word in options)
        text += f"\n[beam]\noptions = [\n  {words}\n]\n" if options else ""
        self._file(place).parent.mkdir(parents=True, exist_ok=True)
        self._file(place).write_text(text)

    def _run(self, place: str, stage: str, *more: str) -> None:
        began = time.monotonic()
        log = self.folder / place / f"{stage}.log"
        words = ["-m", "twinspire", stage, str(self._file(place)), "--date", str(DAY), *more]
        with log.open("wb") as file, self.console.status(f"{stage} {place} …"):
            # A group of its own, so that Ctrl-C only reaches this process, which ends it
            process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, stdout=file, stderr=file, process_group=0
            )
            try:
                # Popen.wait does not tell the CPU time of this process alone.
                _, status, usage = os.wait4(process.pid, 0)
                code = process.returncode = os.waitstatus_to_exitcode(status)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        took = time.monotonic() - began
        computed = usage.ru_utime + usage.ru_stime
        self.took[place, stage] = (took, computed)
        if code:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise StageFailed(
                f"The stage {stage} must succeed {place}; it ended with {code}. {log} ends:\n{end}"
            )
        self.console.print(f"{stage:9} {place:10} {took:5.0f} s, {computed:.0f} s of computing")
