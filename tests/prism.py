"""Prism, Beam's portable runner, as a separate service with a pool of Python workers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc as api_grpc

from tests import go_programs

ROOT = Path(__file__).parents[1]


class Prism:
    """A running Prism.

    Attributes:
      endpoint: of its job service.
      options: Beam's, for jobs whose steps run in the pool's processes.
      loopback: the same, for jobs whose steps run in the client's.
    """

    def __init__(self, endpoint, pool):
        self.endpoint = endpoint
        self.loopback = [
            "--runner=PortableRunner",
            f"--job_endpoint={endpoint}",
            "--environment_type=LOOPBACK",
        ]
        self.options = [
            *self.loopback[:2],
            "--environment_type=EXTERNAL",
            f"--environment_config={pool}",
        ]

    def jobs(self):
        """State of each job by its name and number."""
        stub = api_grpc.JobServiceStub(grpc.insecure_channel(self.endpoint))
        return {
            (name(job), job.job_id): api.JobState.Enum.Name(job.state)
            for job in stub.GetJobs(api.GetJobsRequest(), timeout=30).job_info
        }

    def states(self, word):
        """States of the jobs whose names hold a word, in no order."""
        return [state for (name, _), state in self.jobs().items() if word in name]


def name(job):
    return job.pipeline_options.fields["beam:option:job_name:v1"].string_value


@contextlib.contextmanager
def running(home, pythonpath=ROOT, hidden=None):
    """Starts Prism and a pool; what they started ends with them. Skips where Go is not.

    Args:
      home: folder for logs.
      pythonpath: where the workers find what they import.
      hidden: a folder in whose place the workers see another one, as on a host of their own.
    """
    program = go_programs.build(go_programs.PRISM, f"v{version('apache-beam')}")
    job_port, pool_port = _free_ports(2)
    service = [str(program), f"--job_port={job_port}", "--serve_http=false"]
    pool = [
        sys.executable,
        *("-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool_port}"),
    ]
    if hidden is not None:
        mount = 'mount -t tmpfs none "$0" && exec "$@"'
        pool = ["unshare", "--mount", "sh", "-c", mount, str(hidden), *pool]
        if subprocess.run([*pool[:6], "true"], capture_output=True).returncode:
            pytest.skip("a folder of the workers' own needs the right to mount one")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # a pool starts `python`
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(pythonpath)}
    started = []
    try:
        for command in (service, pool):
            with (Path(home) / f"{Path(command[0]).name}-{job_port}.log").open("wb") as log:
                # Not where the checkout is, which Python would look into for what it imports.
                process = subprocess.Popen(
                    command, env=env, cwd=home, stdout=log, stderr=log, start_new_session=True
                )
            started.append(process)
        for port in (job_port, pool_port):
            _wait_for(port)
        yield Prism(f"localhost:{job_port}", f"localhost:{pool_port}")
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(true, seconds=300):
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def _free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port):
    def answers():
        with socket.socket() as one:
            return one.connect_ex(("localhost", port)) == 0

    until(answers)
