"""Runs a stage of a day: waits for the logs and for earlier days, plans and runs the stage
with twinspire/runs/stage_tasks.py, and records the state of the run.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from twinspire.runs import run_leases
from twinspire.runs.day_run import DayRun
from twinspire.runs.live_catalogue import catch_up, follow
from twinspire.runs.notifications import notify_of_error
from twinspire.runs.stage_tasks import complete, late_events, plan_stage
from twinspire.runs.stages import FEATURES, STAGES, Stage
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Mode, Promote
from twinspire_core.errors import (
    GateRefused,
    LogsLate,
    NothingToDo,
    NotItsTurn,
    ParentChanged,
    RunnerFailed,
    TryAgain,
    in_one_line,
)
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console, doing


def run_stage(
    run: DayRun,
    name: str,
    *,
    mode: Mode = "incremental",
    force: bool = False,
    late: bool = False,
    promote: Promote = "auto",
) -> dict[str, Any]:
    """Runs one stage of one day, unless it is already done.

    A run with a lease is recorded as under way, and its end is recorded, too. Sometimes only an older
    catalogue keeps the new version from going live: then it gets the live version's catalogue. If the
    gate refuses the new version, the live version gets the day's catalogue.

    Args:
      mode: whether to go on training from the parent, or to train from scratch.
      force: run the stage even if it is done.
      late: for a stage that reads logs: also run it if events of the day came after it was done.
      promote: whether a version that is published goes live.

    Returns: What `complete` returns, with the run's `mode`, `parent` and `inputs`.

    Raises:
      GateRefused: the version was stored, but does not go live.
      TryAgain: an earlier day has not ended, or the day's logs are not there yet.
      NothingToDo: the day is empty.
      BadData, UsageError: the message says what is wrong.
    """
    stage = STAGES[name]
    try:
        with doing(f"{run.day} {stage.name}"), _under_way(run, stage):
            if late and stage.reads_source and late_events(run.pipeline, run.day):
                force = True
            result = _run_stage(run, stage, mode, force=force, promote=promote)
    except GateRefused as refused:
        if promote != "no":
            refused.followed_by = follow(run)
        raise
    # After the lease is released, since later days can train on the version, whatever its catalogue is
    if stage.publishes and promote == "auto" and not result["live"]:
        result |= catch_up(run, result["version"])
    return result


def check_source(run: DayRun) -> dict[str, Any]:
    """Checks whether the day's logs are there and plausible. From then on the run is under way.

    Raises:
      TryAgain: the logs are late. NothingToDo: the day is empty. BadData: its size is suspicious.
    """
    from beam_jobs.ingest import day_files

    # The stage that reads the logs would fail in the same way, so the run ends as if it had failed
    with _under_way(run, FEATURES):
        return day_files.check(run.pipeline, run.day)


@contextmanager
def _under_way(run: DayRun, stage: Stage) -> Iterator[None]:
    """Holds the run's lease while a stage works, and releases it if the run has ended."""
    before = None
    # Only notifications need it, and it costs a look at the store
    if run.pipeline.notify.command:
        before = run_leases.last_outcome(run.pipeline, run.day)
    if run.lease:
        run_leases.acquire_day(run.pipeline, run.day, run.lease)
    try:
        yield
    except BaseException as error:
        # `BaseException`, because Ctrl-C ends the run, too
        cause = explain(error) or error
        reason = f"{stage.name}: {in_one_line(cause)}"
        outcome = next(end for kinds, end in _OUTCOMES if isinstance(cause, kinds))
        if outcome:
            try:
                _end_lease(run, outcome, reason)
            finally:
                # Even if nothing can be written any more, for example to a full disk
                if not _was_notified(cause, before):
                    notify_of_error(run.pipeline, run.day, stage.name, cause)
        elif run.lease and not isinstance(cause, NotItsTurn | SystemExit):
            # An error here must not hide the first one
            with suppress(Exception):
                run_leases.note_failed_try(run.pipeline, run.day, run.lease, reason)
        if cause is not error:
            raise cause from error
        raise
    if stage.publishes:
        _end_lease(run, "published")


def _end_lease(run: DayRun, outcome: run_leases.Outcome, reason: str | None = None) -> None:
    if run.lease:
        run_leases.write(run.pipeline, run.day, run.lease, outcome, reason=reason)


# How a run of the day ends by an error, the first that fits; None if the run goes on when the stage is
# tried again
_OUTCOMES: tuple[tuple[tuple[type[BaseException], ...], run_leases.Outcome | None], ...] = (
    ((LogsLate,), "late"),
    # A scheduler stops a task by SIGTERM, and tries it again or closes the day
    ((TryAgain, RunnerFailed, SystemExit), None),
    ((GateRefused,), "refused"),
    ((NothingToDo,), "skipped"),
    ((BaseException,), "failed"),
)


def _was_notified(error: BaseException, before: str | None) -> bool:
    """Whether the last run of the day ended in the same way, so that somebody was notified then. Logs
    stay late, and a scheduler whose task was killed finds a refused version again.
    """
    if isinstance(error, GateRefused):
        return error.is_found and before == "refused"
    return isinstance(error, LogsLate) and before == "late"


def _run_stage(
    run: DayRun, stage: Stage, mode: Mode, *, force: bool, promote: Promote
) -> dict[str, Any]:
    began = time.monotonic()
    if stage.reads_source:
        from beam_jobs.ingest import day_files

        # First of all, because late or implausible logs end the run before it waits for anything
        day_files.check(run.pipeline, run.day)
    if stage.waits_for_turn and run.gives_way:
        # An earlier day may have started since a scheduler's run had its turn
        run_leases.ask_turn(run.pipeline, run.day, run.lease, patience=timedelta(0))
    elif stage.waits_for_turn:
        run_leases.await_turn(run.pipeline, run.day)
    # Only now, because the day that this one waited for has published, and may be its parent
    run.read_log()
    try:
        task = plan_stage(run, stage, mode, promote)
    except ParentChanged:
        # Without a lease, a person typed this one stage, and decides about the others
        if run.lease is None:
            raise
        _train_again(run, stage)
        task = plan_stage(run, stage, mode, promote)
    parent = task.context.parent
    return {
        "mode": task.context.mode,
        "parent": parent.version if parent else None,
        "inputs": dict(task.context.inputs),
        **complete(run, task, force=force, began=began),
    }


def _train_again(run: DayRun, stage: Stage) -> None:
    """Makes the stages from training up to this one again. A scheduler would only try this one again,
    which would fail in the same way.
    """
    console.print(
        f"{run.day} is trained again: its parent was rolled back meanwhile, or an earlier day was filled"
        " in.",
        soft_wrap=True,
    )
    names, first = list(STAGES), str(stage.same_parent_as)
    trained = attempts.latest(run.pipeline, run.day, first)
    mode: Mode = trained.mode if trained else "incremental"
    for name in names[names.index(first) : names.index(stage.name)]:
        _run_stage(run, STAGES[name], mode, force=False, promote="auto")
