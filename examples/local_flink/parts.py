"""One part of the cluster, as a process: started, asked for what it started, killed."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from examples.local_airflow import processes
from examples.local_flink import jars
from examples.local_flink.network import Host

ROOT = Path(__file__).parents[2]
HOME_MARK = "TWINSPIRE_LOCAL_FLINK"
"""Environment variable of all processes of a cluster: its home."""
PART_MARK = "TWINSPIRE_LOCAL_FLINK_PART"
"""And the name of their part."""


@dataclass
class Part:
    """A part.

    Attributes:
      name: how people are told of it, and how its log is called.
      host: where it runs.
      words: of docker/flink/part.sh.
      home: the cluster's folder.
      manager: the address of JobManager and job server.
      stay: whether it outlives this process.
    """

    name: str
    host: Host
    words: list[str]
    home: Path
    manager: str
    stay: bool
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.home / f"{self.name}.log"

    def start(self, before: tuple[str, ...] = (), **env: str) -> None:
        """Starts it.

        Args:
          before: words before its command.
          env: further variables.
        """
        settings = {
            HOME_MARK: str(self.home),
            PART_MARK: self.name,
            "FLINK_HOME": str(jars.fetch()),
            "FLINK_MANAGER": self.manager,
            "FLINK_SELF": self.host.address,
            # Workers find Python and this checkout.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **env,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.host.enter, *before, str(jars.FOLDER / "part.sh"), *self.words],
                env={**os.environ, **settings},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C only reaches this process, which stops it
                preexec_fn=None if self.stay else processes.die_with_parent,
            )

    def has_ended(self) -> bool:
        """Whether it was started, and runs no longer."""
        return self._process is not None and self._process.poll() is not None

    def wait(self) -> None:
        """Waits for its end."""
        if self._process is not None:
            self._process.wait()

    def kill(self) -> None:
        """Kills it and what it has started, as when its container runs out of memory."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()

    def processes(self) -> list[int]:
        """Pids of it and of what it started."""
        mine = processes.find(f"{PART_MARK}={self.name}", None, "")
        return [pid for pid in of_home(self.home) if pid in mine]

    def children(self) -> list[int]:
        """Pids of what it started: of a pool, the Python workers."""
        own = self._process.pid if self._process else None
        return [pid for pid in self.processes() if pid != own]

    def log_end(self, lines: int = 15) -> str:
        """The last lines of its log, for a message."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return f"The end of {self.log}:\n" + "\n".join(text[-lines:])


def of_home(home: Path) -> list[int]:
    """Pids of all processes of a cluster."""
    return processes.find(f"{HOME_MARK}={home}", None, "")
