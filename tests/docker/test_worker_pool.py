"""The pool of docker/flink/worker_pool.py with a `python` that a test has made."""

import runpy
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api

POOL = Path(__file__).parents[2] / "docker" / "flink" / "worker_pool.py"
REQUEST = api.StartWorkerRequest(worker_id="1-1")


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Asks for a worker where the check of the installation runs a line of a shell."""

    def start(check):
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\ncase "$2" in "import beam_jobs") {check};; esac\nexec sleep 60\n'
        )
        python.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        pool = runpy.run_path(str(POOL))["WatchedPool"](use_process=True)
        answer = pool.StartWorker(REQUEST, None)
        is_there = REQUEST.worker_id in pool._worker_processes
        pool.StopWorker(api.StopWorkerRequest(worker_id=REQUEST.worker_id), None)
        return answer.error, is_there

    return start


def test_a_worker_starts_though_the_check_before_it_was_killed(started):
    assert started("kill -9 $$") == ("", True)


def test_no_worker_starts_where_the_project_is_not_installed(started):
    assert started("echo no module >&2; exit 1") == ("no module\n", False)
