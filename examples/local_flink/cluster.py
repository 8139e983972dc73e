"""A whole Flink cluster on this machine: starts it, asks it for its state, and stops it.

It is made of the same parts as docker/flink/compose.yaml, by the same script and settings: a
JobManager and Beam's job server on one host, and on each further host a TaskManager of one slot
with a pool of Python workers. Hosts are network namespaces. Without the right to make them, all is on
this host, with one TaskManager of as many slots.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from examples.local_airflow import processes
from examples.local_flink import jars, network, parts, rest
from examples.local_flink.network import Host, Network
from examples.local_flink.parts import Part
from examples.local_flink.rest import Rest
from twinspire_core.errors import TryAgain, UsageError

JOBS, ARTIFACTS, POOL = 8099, 8098, 50000
"""Ports of the job server, and of a pool of workers."""


class LocalFlink:
    """The cluster, as a context manager that starts and stops it.

    Attributes:
      home: folder of its logs, one for each part, and of `cluster.json`, by which another process
        finds it.
      workers: how many tasks run at once.
      parts: its parts by name: `jobmanager`, `job-server`, and `taskmanager-N` with `pool-N` from
        1 on; known once it has started.
    """

    def __init__(self, home: Path, workers: int = 2, *, one_host: bool = False) -> None:
        """Prepares the settings, and starts nothing.

        Args:
          home: folder for logs and state; made if it is missing.
          workers: TaskManagers, each with one slot and one pool of Python workers.
          one_host: whether network namespaces are left alone, also where they are allowed.
        """
        self.home = home.absolute()
        self.workers = workers
        self._one_host = one_host
        self._network = network.THIS_HOST
        self.parts: dict[str, Part] = {}

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
    def rest(self) -> Rest:
        """Flink's REST API."""
        return Rest(self.manager.address)

    @property
    def options(self) -> list[str]:
        """What `beam.options` of a pipeline file must be for its jobs to run here."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.manager.address}:{JOBS}",
            f"--artifact_endpoint={self.manager.address}:{ARTIFACTS}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{POOL}",
            f"--flink_master={self.rest.url}",
            f"--parallelism={self.workers}",
            # How long a worker without work is kept. With nothing, each step imports TensorFlow;
            # with more than the first pause of flink-conf.yaml, a dead worker is kept as well.
            "--environment_cache_millis=10000",
        ]

    # Start

    def start(self, *, stay: bool = False) -> None:
        """Fetches the jars if they are missing, starts the processes and returns.

        Args:
          stay: whether the processes outlive this one.

        Raises:
          UsageError: Java or Maven is missing, a port is taken, or a cluster runs in this home.
        """
        if self.processes():
            raise UsageError(
                f"Another cluster is running in {self.home}. Stop it first: docker/flink/local.sh stop."
            )
        jars.fetch()
        self.home.mkdir(parents=True, exist_ok=True)
        self._clear()
        self._make_network(stay)
        self._write()
        for part in self.parts.values():
            part.start()

    def _make_network(self, stay: bool) -> None:
        names = ["manager", *(f"worker{n}" for n in range(1, self.workers + 1))]
        made = None if self._one_host else network.make(names)
        self._network = made or network.THIS_HOST
        settings, hosts = [], self._network.hosts[1:]
        if made is None:
            for port in (rest.PORT, JOBS, ARTIFACTS, POOL):
                network.must_be_free(port)
            inside = ("jobmanager.bind-host", "rest.bind-address", "taskmanager.bind-host")
            settings = [f"-D{name}=127.0.0.1" for name in inside]
            settings += [f"-Dtaskmanager.numberOfTaskSlots={self.workers}"]
            hosts = self._network.hosts
        words = {"jobmanager": (self.manager, settings), "job-server": (self.manager, [])}
        for number, host in enumerate(hosts, 1):
            words[f"taskmanager-{number}"] = (host, settings)
            words[f"pool-{number}"] = (host, [])
        self.parts = {
            name: Part(
                name,
                host,
                # part.sh knows `taskmanager`, not `taskmanager-2`.
                [name.rstrip("-0123456789"), *more],
                self.home,
                self.manager.address,
                stay,
            )
            for name, (host, more) in words.items()
        }

    # Ready?

    def wait_until_ready(
        self, tick: Callable[[str], None] = lambda missing: None, timeout: float = 300
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
            for part in self.parts.values():
                if part.has_ended():
                    raise TryAgain(f"{part.name} ended while starting. {part.log_end()}")
            if time.monotonic() > end:
                raise TryAgain(
                    f"The cluster is not ready after {timeout:.0f} s; missing: {missing}. Look at"
                    f" the logs in {self.home}."
                )
            tick(missing)
            time.sleep(0.3)

    def missing(self) -> str:
        """What is missing, in words; empty when jobs can be sent."""
        slots = self.rest.slots()
        if slots is None:
            return "the JobManager"
        if slots < self.workers:
            return f"{self.workers - slots} of {self.workers} TaskManagers' slots"
        if not network.listens(self.manager.address, JOBS):
            return "the job server"
        workers = self._network.hosts[1:] or self._network.hosts
        silent = [host.name for host in workers if not network.listens(host.address, POOL)]
        return f"the pool of Python workers on {', '.join(silent)}" if silent else ""

    # Stop

    def stop(self) -> None:
        """Stops everything, and returns when no process of it is left."""
        with processes.undisturbed():
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            processes.end(self.processes, patience=8)
            for part in self.parts.values():
                part.wait()
            self._clear()

    def cpu_seconds(self) -> float:
        """CPU seconds of its processes so far, and of their children that have ended."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it has just ended
                stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                total += sum(map(int, stat[11:15]))  # own and children's, user and system
        return total / os.sysconf("SC_CLK_TCK")

    def processes(self) -> list[int]:
        """Pids of this cluster and of everything that it started, Python workers included."""
        return parts.of_home(self.home)

    @property
    def _file(self) -> Path:
        return self.home / "cluster.json"

    def _write(self) -> None:
        hosts = [[host.name, host.address, list(host.enter)] for host in self._network.hosts]
        told = {"bridge": self._network.bridge, "hosts": hosts, "workers": self.workers}
        self._file.write_text(json.dumps(told))

    def find(self) -> bool:
        """Takes over a cluster of this home that another process has started. False if none is running."""
        if not self._file.exists() or not self.processes():
            return False
        told = json.loads(self._file.read_text())
        hosts = [Host(name, address, tuple(enter)) for name, address, enter in told["hosts"]]
        self._network, self.workers = Network(told["bridge"], hosts), told["workers"]
        return True

    def _clear(self) -> None:
        """Removes the network of this home, even if its owner was killed."""
        bridge = self._network.bridge
        if bridge is None and self._file.exists():
            bridge = json.loads(self._file.read_text())["bridge"]
        if bridge:
            network.remove(bridge)
        self._network = network.THIS_HOST
        self._file.unlink(missing_ok=True)
