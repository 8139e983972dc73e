"""A whole Airflow on this machine: started, asked and stopped from one place. For the demo, `make airflow` and tests.

It listens on 127.0.0.1 only, keeps everything in one folder (SQLite) and leaves no process behind.
"""

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twinspire.airflow_rest import Rest
from twinspire.errors import TryAgain, UsageError

MARK = "TWINSPIRE_LOCAL_AIRFLOW"
DAGS = Path(__file__).parent.parent / "dags"
_PR_SET_PDEATHSIG = 1


class LocalAirflow:
    """`airflow standalone` with its own home, as a context manager that starts and stops it.

    Attributes:
      home: AIRFLOW_HOME. Kept between starts, and with it the runs and their logs.
      url: where the UI and the REST API are.
      user, password: of the one administrator; new at every start.
      rest: the client, once `wait_until_healthy` has returned.
    """

    def __init__(
        self,
        home: Path,
        pipelines: Path,
        *,
        fresh: bool = False,
        schedule: bool = True,
        port: int | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """Prepares the folder and the settings; starts nothing.

        Args:
          home: folder for Airflow's database, logs and settings; made if need be.
          pipelines: folder of pipeline files; each becomes a DAG.
          fresh: whether runs and logs of earlier starts are deleted.
          schedule: whether unpaused DAGs run by their schedule. Off: only by hand and by backfill.
          port: of the UI; a free one by default.
          env: further variables for Airflow and its tasks.
        """
        self.home = home.absolute()
        self.fresh = fresh
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.user, self.password = "admin", secrets.token_urlsafe(9)
        self.log = self.home / "standalone.log"
        self._process: subprocess.Popen | None = None
        self._env = {**os.environ, **self._settings(pipelines.absolute(), schedule), **(env or {})}

    def _settings(self, pipelines: Path, schedule: bool) -> dict[str, str]:
        passwords = self.home / "passwords.json"
        return {
            MARK: str(self.home),
            "PATH": f"{self.home / 'bin'}:{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "NO_PROXY": "127.0.0.1,localhost",
            "TWINSPIRE_PYTHON": sys.executable,
            "TWINSPIRE_PIPELINES": str(pipelines),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",  # each slot is a process of 100 MB
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.user}:admin",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(schedule),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def __enter__(self) -> "LocalAirflow":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the processes and returns at once.

        Raises:
          UsageError: Airflow is not installed in this environment, or one runs in this home already.
        """
        if found := self.processes():
            raise UsageError(
                f"One Airflow at a time uses {self.home}; processes {found} do. Stop that one first, by Ctrl-C."
            )
        airflow = shutil.which("airflow", path=Path(sys.executable).parent)
        if airflow is None:
            raise UsageError(f"Airflow is needed, and is not installed beside {sys.executable}: run `make setup`.")
        if self.fresh:
            shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "passwords.json").write_text(json.dumps({self.user: self.password}))
        (self.home / "passwords.json").chmod(0o600)
        self._without_log_servers(airflow)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["airflow", "standalone"],
                env=self._env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us, and we stop it in order
                preexec_fn=_stop_with_parent,
            )

    def _without_log_servers(self, airflow: str) -> None:
        """Puts a front before `airflow`: its log servers listen on all interfaces, and one machine needs none."""
        front = self.home / "bin" / "airflow"
        front.parent.mkdir(exist_ok=True)
        skip = 'case "$1" in scheduler|triggerer) set -- "$@" --skip-serve-logs;; esac'
        front.write_text(f'#!/bin/sh\n{skip}\nexec "{airflow}" "$@"\n')
        front.chmod(0o755)

    def wait_until_healthy(self, tick: Callable[[float], None] = lambda seconds: None, timeout: float = 180) -> Rest:
        """Waits for all parts of Airflow, then logs in.

        Args:
          tick: called about twice a second with the seconds waited.
          timeout: in seconds.

        Raises:
          TryAgain: it stopped, or is not healthy in time; the end of its log is in the message.
        """
        began = time.monotonic()
        rest = Rest(self.url, self.user, self.password)
        while (waited := time.monotonic() - began) < timeout:
            if not self.running():
                raise TryAgain(f"Airflow stopped while starting. The end of {self.log}:\n{self.log_end()}")
            if rest.healthy():
                self.rest = rest
                return rest
            tick(waited)
            time.sleep(0.5)
        raise TryAgain(f"Airflow is not healthy after {timeout:.0f} s. The end of {self.log}:\n{self.log_end()}")

    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def log_end(self, lines: int = 30) -> str:
        """The last lines of the log of Airflow's own processes."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def stop(self) -> None:
        """Stops Airflow and its tasks, and returns when no process of theirs is left."""
        process = self._process
        if process is None:
            return
        with _undisturbed():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # SIGTERM would orphan its children
            patience = 12.0  # an idle Airflow needs 6 to 12 s; a busy one would wait for its tasks
            for sign in (signal.SIGTERM, signal.SIGKILL):
                if _wait(lambda: process.poll() is not None and not self.processes(), patience):
                    break
                patience = 8.0
                for pid in self.processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
            process.wait()
            self._process = None

    def processes(self) -> list[int]:
        """Pids of this Airflow and of everything that it started.

        Found by our mark in their environment, and by their session: some of Airflow's processes write their title over
        their environment, and tasks run their commands in sessions of their own.
        """
        mark = f"{MARK}={self.home}".encode()
        sessions = {int(home.name): _session(home) for home in Path("/proc").glob("[0-9]*")}
        marked = {pid for pid in sessions if mark in _environment(pid)}
        ours = {sessions[pid] for pid in marked} | ({self._process.pid} if self._process else set())
        return [pid for pid, session in sessions.items() if session in ours]


def free_port(preferred: int = 0) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: the preferred one if it is free."""
    for port in (preferred, 0):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return s.getsockname()[1]
    raise TryAgain("No port of 127.0.0.1 is free. Stop something that listens, and try again.")


def _stop_with_parent() -> None:
    """Runs in the child: dies with us, and hears SIGINT even where we were started with `&`, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _session(process: Path) -> int:
    try:
        # PID (NAME) STATE PARENT GROUP SESSION …, where NAME may hold anything
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return 0


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@contextlib.contextmanager
def _undisturbed():
    """A second Ctrl-C must not interrupt the clearing up."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
