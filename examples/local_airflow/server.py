"""A whole Airflow on this machine, for the demo, `make airflow` and tests: starts it, sends it requests and
stops it.

It listens on 127.0.0.1 only and leaves no process behind. Everything is in one folder, with its database
unless you name another one.
"""

import contextlib
import fcntl
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
from typing import Any
from urllib.parse import urlencode

import orjson
from airflow_client.client.exceptions import ApiException, NotFoundException

from examples.local_airflow import processes
from twinspire.backfills.airflow_rest import AirflowRest
from twinspire_core.errors import TryAgain, UsageError

MARK = "TWINSPIRE_LOCAL_AIRFLOW"
DAGS = Path(__file__).parents[2] / "dags"

RESTARTS = 3
# As docker/compose.yaml starts them. A part that has ended is started again, a few times: whatever makes
# it end so often will not go away. What it left is killed first: the workers of a scheduler that was killed
# would stay for ever.
_PARTS = """
part() {
  set -m  # each in a process group of its own
  # A triggerer waits ten seconds for triggers, of which no DAG here has any.
  case $1 in triggerer) end="kill -KILL -- -";; *) end="kill ";; esac
  trap '$end$!; wait; exit' TERM
  for start in $(seq 0 "$RESTARTS"); do
    airflow "$@" & wait $!
    echo "airflow $1 has ended with exit code $?, after $start of $RESTARTS restarts"
    kill -KILL -- -$! 2>/dev/null
    sleep 1
  done
  echo "airflow $1 ends again and again: all of Airflow is stopped"
  kill -TERM $$
}
trap 'kill $(jobs -p); wait' INT TERM  # children of a shell like this one ignore SIGINT
airflow db migrate || exit
part scheduler & part dag-processor & part triggerer &
part api-server --host 127.0.0.1 --port "$AIRFLOW__API__PORT" & wait
"""

# As in docker/compose.yaml, and there it says why.
PATIENCE = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "16",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "15",
}


class LocalRest(AirflowRest):
    """A client that also waits for DAGs, and starts runs by hand."""

    def wait_for_dag(self, dag: str, timeout: float = 90) -> dict[str, Any]:
        """The DAG, when its file has been parsed.

        Raises:
          TryAgain: it does not appear. The message has the import errors.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                return self.call("GET", f"dags/{dag}")
            except NotFoundException:
                time.sleep(0.5)
        errors = "\n".join(error["stack_trace"] for error in self.import_errors())
        raise TryAgain(
            f"Airflow has no DAG {dag} after {timeout:.0f} s."
            f" {errors or 'It reports no import error.'}"
        )

    def call(self, method: str, path: str, json: object = None, **query: object) -> Any:
        """The JSON answer to any request below `/api/v2/`.

        Raises:
          ApiException: the server refuses it.
        """
        address = f"{self.url}/api/v2/{path}?{urlencode(query, doseq=True)}"
        answer = self.call_api(method, address, {"Content-Type": "application/json"}, json)
        text = (answer.data or b"").decode()
        if answer.status >= 400:
            raise ApiException.from_response(http_resp=answer, body=text, data=None)
        return orjson.loads(text or "{}")

    def trigger(self, dag: str, **conf: object) -> str:
        """Starts a manual run with these parameters, and returns its id."""
        body = {"logical_date": None, "conf": conf}
        return str(self.call("POST", f"dags/{dag}/dagRuns", json=body)["dag_run_id"])


class LocalAirflow:
    """Airflow's four parts as processes of their own, as deployments have them: a context manager
    that starts and stops them. A part whose process has ended is started again.

    Attributes:
      home: AIRFLOW_HOME. Kept between starts, and with it the runs and their logs.
      url: where the UI and the REST API are.
      user, password: of the one administrator; new at every start.
      rest: the client, of use once `wait_until_healthy` has returned.
    """

    def __init__(
        self,
        home: Path,
        pipelines: Path,
        *,
        fresh: bool = False,
        schedule: bool = True,
        port: int | None = None,
        database: str | None = None,
        restarts: int = RESTARTS,
        env: dict[str, str] | None = None,
    ) -> None:
        """Prepares the folder and the settings; starts nothing.

        Args:
          home: folder for Airflow's database, logs and settings; made if need be.
          pipelines: folder of pipeline files; each becomes a DAG.
          fresh: whether runs and logs of earlier starts are deleted.
          schedule: whether unpaused DAGs run by their schedule. Off: only by hand and by backfill.
          port: of the UI; a free one by default.
          database: an SQLAlchemy URL, of an empty database or one of Airflow's; by default SQLite.
          restarts: how often each part is started again; then all of Airflow is stopped.
          env: further variables for Airflow and its tasks.
        """
        self.home = home.absolute()
        self.fresh = fresh
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.user, self.password = "admin", secrets.token_urlsafe(9)
        self.log = self.home / "airflow.log"
        self.rest = self._client()
        self._process: subprocess.Popen[bytes] | None = None
        # Holds the pid of the session's first process
        self._lock_file = self.home.with_name(f"{self.home.name}.lock")
        settings = self._settings(pipelines.absolute(), schedule)
        if database:
            settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database
        self._env = {**os.environ, **settings, "RESTARTS": str(restarts), **(env or {})}

    def _client(self) -> LocalRest:
        return LocalRest(self.url, self.user, self.password)

    def _settings(self, pipelines: Path, schedule: bool) -> dict[str, str]:
        passwords = self.home / "passwords.json"
        return {
            MARK: str(self.home),
            "PATH": (
                f"{self.home / 'bin'}:{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
            ),
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
            # Whoever wants to write waits so many seconds for the others. By SQLite's default of five,
            # the API server of a busy machine answers 500 instead.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                f"sqlite:///{self.home / 'airflow.db'}?timeout=60"
            ),
            **PATIENCE,
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(schedule),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }

    def __enter__(self) -> "LocalAirflow":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the processes and returns at once.

        Raises:
          UsageError: Airflow is not installed in this environment, or one runs in this home
          already.
        """
        airflow = shutil.which("airflow", path=Path(sys.executable).parent)
        if airflow is None:
            raise UsageError(
                f"Airflow is not installed next to {sys.executable}. Install it: make setup"
            )
        self._take_home()
        self.rest = self._client()
        if self.fresh:
            shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "passwords.json").write_text(json.dumps({self.user: self.password}))
        (self.home / "passwords.json").chmod(0o600)
        self._without_log_servers(airflow)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", _PARTS],
                env=self._env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C only reaches this process, which stops Airflow
                preexec_fn=processes.die_with_parent,
            )
        self._lock_file.write_text(str(self._process.pid))

    def _take_home(self) -> None:
        """Makes sure that nobody else uses the home, and ends processes of an owner that was killed."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock_file.open("a")
        try:
            # The system releases it when this process ends, even if it is killed
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            self._lock.close()
            raise UsageError(
                f"Another Airflow is running in {self.home}. Stop it by Ctrl-C first."
            ) from e
        processes.end(self.processes, patience=0)

    def _without_log_servers(self, airflow: str) -> None:
        """Makes a script that starts `airflow` without its log servers."""
        # They listen on all interfaces, and one machine needs none
        front = self.home / "bin" / "airflow"
        front.parent.mkdir(exist_ok=True)
        skip = 'case "$1" in scheduler|triggerer) set -- "$@" --skip-serve-logs;; esac'
        front.write_text(f'#!/bin/sh\n{skip}\nexec "{airflow}" "$@"\n')
        front.chmod(0o755)

    def wait_until_healthy(
        self, tick: Callable[[float], None] = lambda seconds: None, timeout: float = 180
    ) -> LocalRest:
        """Waits for all parts of Airflow, then logs in.

        Args:
          tick: called about twice a second with the seconds waited.
          timeout: in seconds.

        Raises:
          TryAgain: it stopped, or is not healthy in time. The message has the end of its log.
        """
        began = time.monotonic()
        while (waited := time.monotonic() - began) < timeout:
            if not self.running():
                raise TryAgain(
                    f"Airflow stopped while starting. The end of {self.log}:\n{self.log_end()}"
                )
            if not self.rest.trouble():
                return self.rest
            tick(waited)
            time.sleep(0.5)
        raise TryAgain(
            f"Airflow is not healthy after {timeout:.0f} s. The end of"
            f" {self.log}:\n{self.log_end()}"
        )

    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def log_end(self, lines: int = 30) -> str:
        """The last lines of the log of Airflow's own processes."""
        return (
            "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
            if self.log.exists()
            else ""
        )

    def stop(self) -> None:
        """Stops Airflow and its tasks, and returns when no process of theirs is left."""
        self.rest.close()
        process = self._process
        if process is None:
            return
        with processes.undisturbed():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            # An idle Airflow needs some seconds, but a busy one would wait for its tasks
            processes.end(self.processes, patience=12)
            process.wait()
            self._process = None
            self._lock.close()

    def processes(self) -> list[int]:
        """Pids of this Airflow and of everything that it started."""
        session = self._lock_file.read_text() if self._lock_file.exists() else ""
        return processes.find(
            f"{MARK}={self.home}", int(session) if session.isdigit() else None, "airflow"
        )


def free_port(preferred: int = 0) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: the preferred one if it is free."""
    for port in (preferred, 0):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return int(s.getsockname()[1])
    raise TryAgain("No port of 127.0.0.1 is free. Stop a server, and try again.")
