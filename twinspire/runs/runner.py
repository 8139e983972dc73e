"""Runs a stage of a day: waits for what it needs (logs, its turn), has it planned and done
(twinspire/runs/stage_tasks.py), and records how the run goes.
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
    reuse: bool = True,
) -> dict[str, Any]:
    """Runs one stage of one day, or finds it done.

    If the run has a lease, it is recorded that the run is under way, and how it ended. A version that
    only its older catalogue keeps from going live gets the live one's catalogue; if the gate refuses a
    version, the live one gets the day's catalogue.

    Args:
      mode: whether to train on from the parent, or from scratch.
      force: run it even if it is done.
      late: run it also if it reads the logs and events of the day came after it was done.
      promote: whether a version that is published goes live.
      reuse: whether caches of logs from earlier runs are used, and added to.

    Returns: The stage's summary with `stage`, `day`, `status` (`done` or `already done`), `attempt`
      and `seconds`.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: an earlier day is unfinished,
      or the day's input is not there yet. NothingToDo: the day is empty. BadData, UsageError: as
      they say.
    """
    stage = STAGES[name]
    try:
        with doing(f"{run.day} {stage.name}"), _under_way(run, stage):
            if late and stage.reads_source and late_events(run):
                force = True
            result = _run_stage(run, stage, mode, force=force, promote=promote, reuse=reuse)
    except GateRefused as refused:
        if promote != "no":
            refused.followed_by = follow(run, reuse=reuse)
        raise
    # The lease is released by now: later days may train on the version, whatever its catalogue is
    if stage.publishes and promote == "auto" and not result["live"]:
        result |= catch_up(run, result["version"], reuse=reuse)
    return result


def check_source(run: DayRun) -> dict[str, Any]:
    """Checks whether the day's logs are there and plausible. The run is under way from then on.

    Raises:
      TryAgain, NothingToDo, BadData: the day is late, empty or suspicious.
    """
    from beam_jobs.ingest import day_files

    # The stage that reads the logs would fail in the same way, so the run ends as if it had
    with _under_way(run, FEATURES):
        return day_files.check(run.pipeline, run.day)


@contextmanager
def _under_way(run: DayRun, stage: Stage) -> Iterator[None]:
    """Holds the run's lease while a stage works, and releases it if the run has ended."""
    before = _last_outcome(run)
    run.acquire_lease()
    try:
        yield
    except BaseException as error:  # Ctrl-C, too: it ends the run
        cause = explain(error) or error
        reason = f"{stage.name}: {in_one_line(cause)}"
        if outcome := _outcome(cause):
            try:
                run.release_lease(outcome, reason)
            finally:  # even if nothing can be written any more
                if not _was_notified(cause, before):
                    notify_of_error(run.pipeline, run.day, stage.name, cause)
        elif not isinstance(cause, NotItsTurn | SystemExit):
            with suppress(Exception):  # it must not hide the first error
                run.note_failed_try(reason)
        if cause is not error:
            raise cause from error
        raise
    if stage.publishes:
        run.release_lease(run_leases.PUBLISHED)


def _last_outcome(run: DayRun) -> str | None:
    """How the run of the day ended that ended last; None without `notify.command`, which alone needs it."""
    if not run.pipeline.notify.command:
        return None
    return run_leases.last_outcome(run.pipeline, run.day)


def _was_notified(error: BaseException, before: str | None) -> bool:
    """Whether the last run of the day ended in the same way, which was notified then: with late logs, or
    with a refused version that is found again, as after a scheduler's task was killed.
    """
    if isinstance(error, GateRefused):
        return error.is_found and before == run_leases.REFUSED
    return isinstance(error, LogsLate) and before == run_leases.LATE


def _outcome(error: BaseException) -> str | None:
    """How a run of the day ended by an error; None if it goes on when the stage is tried again."""
    match error:
        case LogsLate():
            return run_leases.LATE
        case TryAgain() | RunnerFailed():
            return None
        case SystemExit():  # by SIGTERM: a scheduler tries it again or closes the day
            return None
        case GateRefused():
            return run_leases.REFUSED
        case NothingToDo():
            return run_leases.SKIPPED
        case _:
            return run_leases.FAILED


def _run_stage(
    run: DayRun, stage: Stage, mode: Mode, *, force: bool, promote: Promote, reuse: bool
) -> dict[str, Any]:
    started = time.monotonic()
    if stage.reads_source:
        from beam_jobs.ingest import day_files

        day_files.check(run.pipeline, run.day)
    if stage.waits_for_turn:
        _await_turn(run)
    # Not earlier: the day that was waited for has published, and may be the parent now
    run.read_log()
    try:
        task = plan_stage(run, stage, mode, promote, reuse=reuse)
    except ParentChanged:
        if run.lease is None:  # somebody typed this one stage, and decides about the others
            raise
        _train_again(run, stage)
        task = plan_stage(run, stage, mode, promote, reuse=reuse)
    attempt, status = complete(run, task, force=force)
    parent = task.context.parent
    result = {
        "stage": stage.name,
        "day": str(run.day),
        "status": status,
        "attempt": attempt.uri,
        "seconds": round(time.monotonic() - started, 1),
        "mode": task.context.mode,
        "parent": parent.version if parent else None,
        "inputs": dict(task.context.inputs),
        **attempt.summary,
    }
    if stage.publishes:
        # The attempt's summary says what was live when it was made
        result["live"] = run.state.live == attempt.summary["version"]
    return result


def _train_again(run: DayRun, stage: Stage) -> None:
    """Makes the stages from training up to this one again. Only retrying this one, as a scheduler does,
    would fail in the same way.
    """
    console.print(
        f"{run.day} is trained again: the version that it went on from was rolled back meanwhile, or a"
        " day before it was filled in.",
        soft_wrap=True,
    )
    names = list(STAGES)
    trained = attempts.latest(run.pipeline, run.day, str(stage.same_parent_as))
    mode: Mode = trained.mode if trained else "incremental"
    for name in names[names.index(str(stage.same_parent_as)) : names.index(stage.name)]:
        _run_stage(run, STAGES[name], mode, force=False, promote="auto", reuse=True)


def _await_turn(run: DayRun) -> None:
    """Waits for earlier days: one may have begun since a scheduler's run had its turn."""
    if run.gives_way:
        run_leases.ask_turn(run.pipeline, run.day, run.lease, patience=timedelta(0))
    else:
        run_leases.await_turn(run.pipeline, run.day)
