"""Runs a stage of a day, or a refresh, and tells what came of it.

A stage waits for what it needs (logs, its turn), is planned by what the registry's log says then
(twinspire/runs/stage_tasks.py), and is found done or made (twinspire/runs/task_attempts.py).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console

from twinspire.runs import day_order, run_leases
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify_of_error
from twinspire.runs.refresh import plan_refresh
from twinspire.runs.stage_tasks import plan_stage
from twinspire.runs.stages import FEATURES, REFRESH, STAGES, Stage
from twinspire.runs.staleness import late_events
from twinspire.runs.task_attempts import complete
from twinspire_core.contracts.stage_context import Mode, Promote
from twinspire_core.errors import (
    GateRefused,
    LogsLate,
    NothingToDo,
    RunnerFailed,
    TryAgain,
)
from twinspire_core.messages import format_message
from twinspire_core.storage.disk_errors import explain

console = Console(stderr=True, highlight=False, markup=False)


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

    If the run has a lease, it is recorded that the run is under way, and how it ended. A version
    that only its older catalogue keeps from going live is given the live one's.

    Args:
      run: of the day.
      name: of the stage.
      mode: whether to train on from the parent, or from scratch.
      force: run it even if it is done.
      late: run it also if it reads the logs and events of the day came after it was done.
      promote: whether a version that is published goes live.
      reuse: whether what earlier runs made of logs is used, and added to.

    Returns: The stage's summary with `stage`, `day`, `status` (`done` or `already done`), `attempt`
      and `seconds`.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: an earlier day is unfinished,
      or the day's input is not there yet. NothingToDo: the day is empty. BadData, UsageError: as
      they say.
    """
    stage = STAGES[name]
    with _under_way(run, stage):
        if late and stage.reads_source and late_events(run):
            force = True
        result = _run_stage(run, stage, mode, force=force, promote=promote, reuse=reuse)
    # The lease is released by now: later days may train on the version, whatever its catalogue.
    if stage.publishes and promote == "auto" and not result["live"]:
        result |= catch_up(run, result["version"])
    return result


def check_source(run: DayRun) -> dict[str, Any]:
    """Looks whether the day's logs are there and plausible. The run counts as under way from before
    it looks.

    Raises:
      TryAgain, NothingToDo, BadData: the day is late, empty or suspicious.
    """
    from beam_jobs.ingest import day_check

    # The stage that reads the logs would find the same: the run ends as if it had.
    with _under_way(run, FEATURES):
        return day_check.check(run.pipeline, run.day)


def refresh(
    run: DayRun,
    *,
    force: bool = False,
    promote: Promote = "auto",
    version: str | None = None,
    reuse: bool = True,
) -> dict[str, Any]:
    """Publishes the live version's towers with the catalogue as of the end of a day, or finds that
    done.

    Args:
      run: of the day: events up to it count, and the items are those of the newest snapshot at or
        before it.
      force: do it again.
      promote: as for a version that is trained.
      version: whose towers to take; by default the live version's.
      reuse: whether what earlier runs made of logs is used, and added to.

    Returns:
      The summary: `new`, `changed`, `withdrawn` and `reused` items, what the index and the gate
      measured, the version.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: other towers went live
      meanwhile. UsageError: the day or the features are not those of the towers. BadData: a
      snapshot, or the version, is damaged.
    """
    started = time.monotonic()
    run.read_log()
    try:
        task = plan_refresh(run, version, promote, reuse=reuse)
        attempt, status = complete(run, task, force=force)
    except Exception as error:
        told = explain(error) or error
        if not isinstance(told, TryAgain | RunnerFailed):
            notify_of_error(run.pipeline, run.day, REFRESH.name, told)
        if told is not error:
            raise told from error
        raise
    made = attempt.summary["version"]
    if run.state.fate.get(made) == "rolled back":
        again = format_message(f'twinspire promote PIPELINE {made} --despite-gate "REASON"')
        console.print(f"{made} was rolled back and stays so. To make it live again: {again}")
    return {
        "stage": task.stage.name,
        "day": str(run.day),
        "status": status,
        "attempt": attempt.uri,
        "seconds": _seconds_since(started),
        **attempt.summary,
        "live": run.is_live(made),
    }


def catch_up(run: DayRun, version: str) -> dict[str, Any]:
    """Gives a version that was trained the live version's catalogue, if only an older one keeps it
    from going live.

    What was withdrawn since its day would come back otherwise.

    Args:
      run: of the version's day; its log has been read after the version was published.
      version: the version.

    Returns:
      What takes the place of the version's publication in the summary; empty when there is nothing
      to do.
    """
    state = run.state
    if state.live is None or version not in state.accepted or state.behind(version) != "catalogue":
        return {}
    day = state.corpus_date(state.live)
    console.print(
        f"{version} has an older catalogue than {state.live}: its towers go live with that of"
        f" {day}."
    )
    result = refresh(run.of_day(day), version=version)
    return {
        "trained": version,
        "version": result["version"],
        "live": result["live"],
        "refresh": result,
    }


@contextmanager
def _under_way(run: DayRun, stage: Stage) -> Iterator[None]:
    """Holds the run's lease while a stage works, and releases it where the run has ended."""
    was_late = _was_late(run)
    run.acquire_lease()
    try:
        yield
    except BaseException as error:  # also of Ctrl-C, which ends the run, too
        told = explain(error) or error
        if outcome := _outcome(told):
            try:
                run.release_lease(outcome)
            finally:  # also where nothing can be written any more
                if not (was_late and outcome == run_leases.LATE):
                    notify_of_error(run.pipeline, run.day, stage.name, told)
        if told is not error:
            raise told from error
        raise
    if stage.publishes:
        run.release_lease(run_leases.PUBLISHED)


def _was_late(run: DayRun) -> bool:
    """Whether the last run of the day that ended did so for want of logs, and somebody was told."""
    if not run.pipeline.notify.command:
        return False
    return run_leases.last_outcome(run.pipeline, run.day) == run_leases.LATE


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
        from beam_jobs.ingest import day_check

        day_check.check(run.pipeline, run.day)
    if stage.waits_for_turn:
        _await_turn(run)
    # Not earlier: the day that was waited for has published, and is the parent now.
    run.read_log()
    task = plan_stage(run, stage, mode, promote, reuse=reuse)
    attempt, status = complete(run, task, force=force)
    parent = task.context.parent
    result = {
        "stage": stage.name,
        "day": str(run.day),
        "status": status,
        "attempt": attempt.uri,
        "seconds": _seconds_since(started),
        "mode": task.context.mode,
        "parent": parent.version if parent else None,
        "inputs": dict(task.context.inputs),
        **attempt.summary,
    }
    if stage.publishes:
        # The attempt tells what was live when it was made.
        result["live"] = run.is_live(attempt.summary["version"])
    return result


def _await_turn(run: DayRun) -> None:
    """An earlier day may have begun since a scheduler's run had its turn."""
    if run.gives_way:
        day_order.ask_turn(run.pipeline, run.day, run.lease, patience=timedelta(0))
    else:
        day_order.await_turn(run.pipeline, run.day)


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 1)
