"""How a run of a day has ended, by the error of a stage."""

import pytest

from twinspire.runs import run_leases
from twinspire.runs.runner import _outcome
from twinspire.runs.stages import FEATURES, STAGES
from twinspire_core.errors import BadData, JobFailed, RunnerFailed, TryAgain


@pytest.mark.parametrize("stage", [FEATURES, STAGES["embed"]], ids=["features", "embed"])
def test_a_runner_that_failed_makes_no_day_late(stage):
    """The day stays open for the next try, so that no later day goes on without it."""
    assert _outcome(stage, RunnerFailed("a worker is lost")) is None
    assert RunnerFailed.exit_code == TryAgain.exit_code
    assert _outcome(stage, JobFailed("a step is wrong")) == run_leases.FAILED
    assert _outcome(stage, BadData("a file is damaged")) == run_leases.FAILED


def test_logs_that_are_not_there_yet_do():
    assert _outcome(FEATURES, TryAgain("no logs yet")) == run_leases.LATE
