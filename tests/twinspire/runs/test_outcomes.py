"""How a run of a day has ended, by the error of a stage."""

import pytest

from twinspire.runs import run_leases
from twinspire.runs.runner import _outcome
from twinspire_core.errors import BadData, JobFailed, LogsLate, RunnerFailed, TryAgain


@pytest.mark.parametrize("error", [RunnerFailed("a worker is lost"), TryAgain("a full disk")])
def test_what_may_be_tried_again_makes_no_day_late(error):
    """The day stays open for the next try, so that no later day goes on without it."""
    assert _outcome(error) is None
    assert error.exit_code == TryAgain.exit_code


def test_only_logs_that_are_not_there_yet_do():
    assert _outcome(LogsLate("no logs yet")) == run_leases.LATE
    assert LogsLate.exit_code == TryAgain.exit_code
    assert _outcome(JobFailed("a step is wrong")) == run_leases.FAILED
    assert _outcome(BadData("a file is damaged")) == run_leases.FAILED
