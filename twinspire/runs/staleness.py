"""Whether a day that is done would come out otherwise if it were run again now, and why."""

from typing import get_args

from twinspire.runs.cache_keys import config_digest
from twinspire.runs.day_run import DayRun
from twinspire.runs.stage_tasks import StageTask, plan_stage, unread_events
from twinspire.runs.stages import STAGES, Stage
from twinspire.runs.task_attempts import is_current
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.contracts.stage_context import Promote
from twinspire_core.errors import TwinspireError


def why_stale(run: DayRun) -> str:
    """What has changed since a day was run: of the first stage that would be done again.

    Args:
      run: of the day; its log has been read.

    Returns:
      A sentence; empty where nothing has changed, or where nobody can tell, as the day's working
      files are gone.
    """
    for stage in STAGES.values():
        attempt = attempts.latest(run.pipeline, run.day, stage.name)
        if attempt is None:
            return ""
        try:
            tasks = _tasks(run, stage, attempt)
        except TwinspireError as error:
            return str(error)
        if not any(is_current(run, task, attempt) for task in tasks):
            return _what_changed(run, tasks[0], attempt)
    return ""


def late_events(run: DayRun) -> int:
    """Events of a day that came after it was run (`source.late_days`); 0 where nobody can tell."""
    try:
        return unread_events(run.pipeline, run.day)
    except TwinspireError:
        return 0


def _tasks(run: DayRun, stage: Stage, attempt: Attempt) -> list[StageTask]:
    """The stage as it would be done now in its attempt's mode."""
    # What a version was published with is not written down, and changes nothing of it.
    ways: tuple[Promote, ...] = get_args(Promote) if stage.publishes else ("auto",)
    return [plan_stage(run, stage, attempt.mode, promote) for promote in ways]


def _what_changed(run: DayRun, task: StageTask, attempt: Attempt) -> str:
    stage = task.stage
    if attempt.config != config_digest(run.pipeline, stage):
        return f"The pipeline file has changed in what {stage.name} reads."
    if attempt.mode != task.context.mode:
        return f"It would be trained in mode {task.context.mode} now, and was in {attempt.mode}."
    if stage.inherits and attempt.parent != task.parent:
        return f"It would go on from {task.parent} now, and went on from {attempt.parent}."
    if stage.reads_source:
        return "Logs or snapshots that it reads have changed."
    if stage.publishes:
        return "Its version is no longer stored."
    return f"{stage.name} would be made from something else."
