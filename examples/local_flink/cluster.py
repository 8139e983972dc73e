"""A whole Flink cluster on this machine: started, asked and stopped from one place.

It is made of the same parts as docker/flink/compose.yaml, by the same script and settings: a
JobManager and Beam's job server on one host, and on each further host a TaskManager of one slot
with a pool of Python workers. Hosts are network namespaces; where those are not allowed, all is on
this host, with one TaskManager of as many slots.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from examples.local_airflow import processes
from examples.local_flink import jars, network
from examples.local_flink.network import Host, Network
from twinspire_core.errors import TryAgain, UsageError

ROOT = Path(__file__).parents[2]
MARK = "TWINSPIRE_LOCAL_FLINK"
"""Environment variable of all processes of a cluster: its home. `PART`: the part's name."""
PART = "TWINSPIRE_LOCAL_FLINK_PART"
REST, JOBS, ARTIFACTS, POOL = 8081, 8099, 8098, 50000


class LocalFlink:
    """The cluster, as a context manager that starts and stops it.

    Attributes:
      home: folder of its logs, one for each part, and of `cluster.json`, by which another process
        finds it.
      workers: how many tasks run at once.
      spread: whether each of these is on a host of its own; known once it has started.
    """

    def __init__(self, home: Path, workers: int = 2, *, one_host: bool = False) -> None:
        """Prepares; starts nothing.

        Args:
          home: folder for logs and state; made if need be.
          workers: TaskManagers, each with one slot and one pool of Python workers.
          one_host: whether network namespaces are left alone, also where they are allowed.
        """
        self.home = home.absolute()
        self.workers = workers
        self._one_host = one_host
        self._network = network.THIS_HOST
        self._parts: dict[str, tuple[Host, list[str]]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stay = False

    def __enter__(self) -> "LocalFlink":
        try:
            self.start()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Where it is

    @property
    def spread(self) -> bool:
        """Whether each TaskManager is on a host of its own."""
        return self._network.bridge is not None

    @property
    def manager(self) -> Host:
        """The host of JobManager and job server."""
        return self._network.hosts[0]

    @property
    def options(self) -> list[str]:
        """What `beam.options` of a pipeline file must be for its jobs to run here."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.manager.address}:{JOBS}",
            f"--artifact_endpoint={self.manager.address}:{ARTIFACTS}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{POOL}",
            f"--parallelism={self.workers}",
            # How long a worker without work is kept. With nothing, each step imports TensorFlow;
            # with more than the first pause of flink-conf.yaml, a dead worker is kept as well.
            "--environment_cache_millis=10000",
        ]

    # Start

    def start(self, *, stay: bool = False) -> None:
        """Fetches the jars if need be, starts the processes and returns.

        Args:
          stay: whether they outlive this process.

        Raises:
          UsageError: Java or Maven is missing, a port is taken, or a cluster runs in this home.
        """
        if self.processes():
            raise UsageError(
                f"One cluster at a time uses {self.home}, and one runs. Stop it first:"
                " docker/flink/local.sh stop."
            )
        self._stay = stay
        jars.fetch()
        self.home.mkdir(parents=True, exist_ok=True)
        self._clear()
        self._make_network()
        for name in self._parts:
            self._start(name)
        self._write()

    def _make_network(self) -> None:
        names = ["manager", *(f"worker{n}" for n in range(1, self.workers + 1))]
        made = None if self._one_host else network.make(names)
        self._network = made or network.THIS_HOST
        if made:
            self._plan(made.hosts[1:], [])
        else:
            for port in (REST, JOBS, ARTIFACTS, POOL):
                _must_be_free(port)
            local = ["-Djobmanager.bind-host=127.0.0.1", "-Drest.bind-address=127.0.0.1"]
            slots = [f"-Dtaskmanager.numberOfTaskSlots={self.workers}"]
            self._plan(self._network.hosts, [*local, "-Dtaskmanager.bind-host=127.0.0.1", *slots])

    def _plan(self, hosts: list[Host], settings: list[str]) -> None:
        """Which parts run on which hosts."""
        self._parts = {
            "jobmanager": (self.manager, ["jobmanager", *settings]),
            "job-server": (self.manager, ["job-server"]),
        }
        for number, host in enumerate(hosts, 1):
            self._parts[f"taskmanager-{number}"] = (host, ["taskmanager", *settings])
            self._parts[f"pool-{number}"] = (host, ["pool"])

    def _start(self, name: str, before: tuple[str, ...] = (), **env: str) -> None:
        host, words = self._parts[name]
        settings = {
            MARK: str(self.home),
            PART: name,
            "FLINK_HOME": str(jars.fetch()),
            "FLINK_MANAGER": self.manager.address,
            "FLINK_SELF": host.address,
            # Workers find Python and this checkout.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **env,
        }
        with (self.home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*host.enter, *before, str(jars.FOLDER / "part.sh"), *words],
                env={**os.environ, **settings},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us, and we stop it in order
                preexec_fn=None if self._stay else processes.die_with_parent,
            )

    def kill(self, part: str) -> None:
        """Kills a part and what it has started, as when its container runs out of memory."""
        for pid in self.processes(part):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._running.pop(part).wait()

    def restart(self, part: str, *before: str, **env: str) -> None:
        """Starts a part again that was killed, as compose does.

        Args:
          part: its name.
          before: words before its command.
          env: further variables.
        """
        self._start(part, before, **env)

    def workers_of(self, pool: str) -> list[int]:
        """The Python workers that a pool has started."""
        return [pid for pid in self.processes(pool) if pid != self._running[pool].pid]

    # Ready?

    def wait_until_ready(
        self, tick: Callable[[str], None] = lambda missing: None, timeout: float = 120
    ) -> None:
        """Waits for all parts.

        Args:
          tick: called several times a second with what is still waited for.
          timeout: in seconds.

        Raises:
          TryAgain: a part has ended, or not all are there in time; the end of its log is told.
        """
        end = time.monotonic() + timeout
        while missing := self.missing():
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise TryAgain(f"{name} ended while starting. {self._log_end(name)}")
            if time.monotonic() > end:
                raise TryAgain(
                    f"The cluster is not ready after {timeout:.0f} s; missing: {missing}. "
                    + self._log_end("jobmanager")
                )
            tick(missing)
            time.sleep(0.3)

    def missing(self) -> str:
        """What is not there yet, in words; nothing once jobs can be sent."""
        slots = self._slots()
        if slots is None:
            return "the JobManager"
        if slots < self.workers:
            return f"{self.workers - slots} of {self.workers} TaskManagers' slots"
        if not _listens(self.manager.address, JOBS):
            return "the job server"
        workers = self._network.hosts[1:] or self._network.hosts
        silent = [host.name for host in workers if not _listens(host.address, POOL)]
        return f"the pool of Python workers on {', '.join(silent)}" if silent else ""

    def _slots(self) -> int | None:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            return int(self.ask("overview")["slots-total"])
        return None

    def ask(self, path: str) -> Any:
        """Flink's REST API: the JSON answer to a GET."""
        # trust_env=False: a proxy has no business between us and hosts of this machine
        with httpx.Client(trust_env=False, timeout=5) as client:
            url = f"http://{self.manager.address}:{REST}/{path}"
            return client.get(url).raise_for_status().json()

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        """Flink's jobs in these states (all, if none is named), oldest first."""
        found = self.ask("jobs/overview")["jobs"]
        chosen = [job for job in found if not states or job["state"] in states]
        return sorted(chosen, key=lambda job: int(job["start-time"]))

    def _log_end(self, name: str, lines: int = 15) -> str:
        log = self.home / f"{name}.log"
        text = log.read_text(errors="replace").splitlines() if log.exists() else []
        return f"The end of {log}:\n" + "\n".join(text[-lines:])

    # Stop

    def stop(self) -> None:
        """Stops everything, and returns when no process of it is left."""
        with processes.undisturbed():
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            processes.end(self.processes, patience=8)
            for process in self._running.values():
                process.wait()
            self._running = {}
            self._clear()

    def processes(self, part: str | None = None) -> list[int]:
        """Pids of this cluster (or a part) and of what it started, Python workers included."""
        mine = processes.find(f"{MARK}={self.home}", None, "")
        if part is None:
            return mine
        return sorted(set(mine) & set(processes.find(f"{PART}={part}", None, "")))

    @property
    def _file(self) -> Path:
        return self.home / "cluster.json"

    def _write(self) -> None:
        hosts = [[host.name, host.address, list(host.enter)] for host in self._network.hosts]
        told = {"bridge": self._network.bridge, "hosts": hosts, "workers": self.workers}
        self._file.write_text(json.dumps(told))

    def find(self) -> bool:
        """Takes over a cluster of this home that another process started; False if none runs."""
        if not self._file.exists() or not self.processes():
            return False
        told = json.loads(self._file.read_text())
        hosts = [Host(name, address, tuple(enter)) for name, address, enter in told["hosts"]]
        self._network, self.workers = Network(told["bridge"], hosts), told["workers"]
        return True

    def _clear(self) -> None:
        """Removes the network of this home, also one that a killed owner left."""
        bridge = self._network.bridge
        if bridge is None and self._file.exists():
            bridge = json.loads(self._file.read_text())["bridge"]
        if bridge:
            network.remove(bridge)
        self._network = network.THIS_HOST
        self._file.unlink(missing_ok=True)


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def _must_be_free(port: int) -> None:
    if _listens("127.0.0.1", port):
        raise UsageError(
            f"Port {port} of 127.0.0.1 must be free for Flink, and something listens there. Stop"
            " it, or run as root: then the cluster has hosts of its own."
        )
