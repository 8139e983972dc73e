"""A PostgreSQL server of one's own, for an Airflow that is tried on it."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from examples.local_airflow.server import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
"""Where Debian has them."""


class Server:
    """A server on 127.0.0.1 that trusts its callers, in its own folder.

    Attributes:
      url: of its one database, for SQLAlchemy.
    """

    def __init__(self) -> None:
        """Makes the folder and an empty cluster; starts nothing."""
        self._home = Path(tempfile.mkdtemp(prefix="twinspire-postgres-"))
        self._data = self._home / "data"
        # The server refuses to run as root, and its account must reach its folder.
        self._run_by: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self._home, account.pw_uid, account.pw_gid)
            ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
            self._run_by = ["setpriv", *ids]
        self._port = free_port()
        self.url = f"postgresql+psycopg2://airflow@127.0.0.1:{self._port}/airflow"
        user = ("--username", "airflow", "--auth", "trust", "--no-sync")
        self._run("initdb", "--pgdata", str(self._data), *user)

    def _run(self, name: str, *options: str) -> None:
        line = [*self._run_by, str(BINARIES[-1].parent / name), *options]
        subprocess.run(line, check=True, cwd=self._home, capture_output=True)

    def _control(self, what: str, *options: str) -> None:
        self._run("pg_ctl", what, "--pgdata", str(self._data), "--wait", *options)

    def start(self) -> None:
        """Starts it, and returns when it answers; also after it was killed."""
        own = f"listen_addresses=127.0.0.1 -c port={self._port}"
        options = f"-c {own} -c unix_socket_directories={self._home}"
        self._control("start", "--options", options, "--log", str(self._home / "log"))

    def create_database(self) -> None:
        """Makes the database."""
        self._run(
            "createdb", "--host", "127.0.0.1", "--port", str(self._port), "-U", "airflow", "airflow"
        )

    def kill(self) -> None:
        """Ends it by SIGKILL, and returns when its processes have noticed."""
        pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        family = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=30)

    def stop(self) -> None:
        """Stops it, and deletes what it holds."""
        self._control("stop", "--mode", "immediate")
        shutil.rmtree(self._home)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A running server with an empty database; what it holds is gone afterwards."""
    one = Server()
    one.start()
    try:
        one.create_database()
        yield one
    finally:
        one.stop()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of the database of such a server."""
    with server() as one:
        yield one.url
