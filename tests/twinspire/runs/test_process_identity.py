import os
import time
from pathlib import Path

import pytest

from twinspire.runs import run_leases


def test_a_process_has_ended_when_it_was_killed_reaped_or_not(other):
    identity, process = other
    assert not run_leases.has_ended(identity)
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert run_leases.has_ended(identity)
    process.wait()
    assert run_leases.has_ended(identity)


@pytest.mark.parametrize(
    ("changed", "ended"),
    [
        ({}, False),
        ({"born": 1}, True),  # its pid was given to another process
        ({"boot": "before"}, True),  # the machine was started anew
        ({"boot": "before", "host": "another"}, False),  # nobody can tell from here
        ({"namespace": "pid:[1]", "born": 1}, False),  # in another container
        ({"boot": ""}, False),
    ],
)
def test_only_what_is_certain_counts_as_ended(changed, ended):
    here = run_leases.identity()
    assert run_leases.has_ended(here.model_copy(update=changed)) is ended
    assert not run_leases.has_ended(None)


def test_a_run_of_another_user_is_alive():
    if os.geteuid() != 0:
        pytest.skip("only root may look at the first process")
    parent = {"pid": os.getppid(), "born": run_leases._born(os.getppid())}
    assert not run_leases.has_ended(run_leases.identity().model_copy(update=parent))
