"""A PostgreSQL server of one's own, for an Airflow that is tried on it."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.local_airflow.server import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
"""Where Debian has them."""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Starts a server on 127.0.0.1 that trusts its callers, with an empty database: its URL for
    SQLAlchemy. What it holds is gone afterwards.
    """
    home = Path(tempfile.mkdtemp(prefix="twinspire-postgres-"))
    # The server refuses to run as root, and its account must reach its folder.
    run_by = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(home, account.pw_uid, account.pw_gid)
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        run_by = ["setpriv", *ids]
    bin_folder = BINARIES[-1].parent
    port = free_port()

    def run(name: str, *options: str) -> None:
        line = [*run_by, str(bin_folder / name), *options]
        subprocess.run(line, check=True, cwd=home, capture_output=True)

    data = str(home / "data")
    run("initdb", "--pgdata", data, "--username", "airflow", "--auth", "trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
    control = ("--pgdata", data, "--wait")
    run("pg_ctl", "start", *control, "--options", options, "--log", str(home / "log"))
    try:
        run("createdb", "--host", "127.0.0.1", "--port", str(port), "-U", "airflow", "airflow")
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
    finally:
        run("pg_ctl", "stop", *control, "--mode", "immediate")
        shutil.rmtree(home)
