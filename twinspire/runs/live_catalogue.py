"""Brings what is live up to a day's catalogue: when asked to, and after a day was published or refused.

How a refresh is planned: twinspire/runs/refresh.py.
"""

import time
import traceback
from typing import Any

from index_builder.registry.version_log import version_date
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify_of_error
from twinspire.runs.refresh import plan_refresh
from twinspire.runs.stages import REFRESH
from twinspire.runs.task_attempts import complete, is_current
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Promote
from twinspire_core.errors import (
    GateRefused,
    RunnerFailed,
    TryAgain,
    TwinspireError,
    UsageError,
    format_message,
)
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console, doing


def refresh(
    run: DayRun,
    *,
    force: bool = False,
    promote: Promote = "auto",
    version: str | None = None,
    reuse: bool = True,
    unasked: bool = False,
) -> dict[str, Any]:
    """Publishes the live version's towers with the catalogue as of the end of a day, or finds that
    done.

    Args:
      run: of the day: events up to it count, and the items are those of the newest snapshot at or
        before it.
      force: make it again even if it is done for the same inputs.
      promote: as for a version that is trained.
      version: whose towers to take; by default the live version's.
      reuse: whether what earlier runs made of logs is used, and added to.
      unasked: whether it follows a refused day, and nobody asked for it: the gate is stricter.

    Returns:
      The summary: `new`, `changed`, `withdrawn` and `reused` items, what the index and the gate
      measured, the version.

    Raises:
      GateRefused: the version was stored, and is not live; or nothing was made, as the day brings
        nothing new. TryAgain: other towers went live meanwhile. UsageError: the day or the features
        are not those of the towers. BadData: a snapshot, or the version, is damaged.
    """
    started = time.monotonic()
    run.read_log()
    try:
        task = plan_refresh(run, version, promote, reuse=reuse, unasked=unasked)
        with doing(f"{run.day} {REFRESH.name}"):
            attempt, status = complete(run, task, force=force)
    except Exception as error:
        told = explain(error) or error
        if _needs_somebody(told, unasked=unasked):
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
        "seconds": round(time.monotonic() - started, 1),
        **attempt.summary,
        "live": run.is_live(made),
    }


def catch_up(run: DayRun, version: str, *, reuse: bool = True) -> dict[str, Any]:
    """Gives a version that was trained the live version's catalogue, if only an older one keeps it
    from going live.

    What was withdrawn since its day would come back otherwise.

    Args:
      run: of the version's day; its log has been read after the version was published.
      reuse: as for a refresh.

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
    result = refresh(run.of_day(day), version=version, reuse=reuse)
    return {
        "trained": version,
        "version": result["version"],
        "live": result["live"],
        "refresh": result,
    }


def follow(run: DayRun, *, reuse: bool = True) -> str | None:
    """Gives the live version's towers the catalogue of a day whose own version the gate refused.

    Else what is served would know neither the day's items nor what users did on it. The gate of a
    refresh judges the catalogue; what it finds, or whatever else is in the way, is told, and the
    version that is live stays as it is.

    Args:
      run: of the refused day.
      reuse: as for a refresh.

    Returns:
      The version that is live instead; None where nothing was to be done, or nothing could be.
    """
    live: str | None = None
    try:
        run.read_log()
        live = run.state.live
        if live is None:
            return None
        if _has_catalogue(run, live):
            return None
        console.print(
            f"{live} is given the catalogue of {run.day}, which it serves until a day is accepted."
        )
        result = refresh(run.of_day(run.day), reuse=reuse, unasked=True)
    except Exception as error:  # a fault, too: it must not hide why the day was refused
        if not isinstance(error, TwinspireError):
            traceback.print_exception(error)
        if isinstance(error, TryAgain | RunnerFailed):
            # A scheduler would try again before it tells anybody; here nothing does.
            notify_of_error(run.pipeline, run.day, REFRESH.name, error)
        why = format_message(str(error) or type(error).__name__)
        console.print(f"{live or 'What is live'} keeps its catalogue: {why}", soft_wrap=True)
        return None
    return result["version"] if result["live"] else None


def _has_catalogue(run: DayRun, live: str) -> bool:
    """Whether what is live has all of a day's catalogue, or that of a later day.

    Of a day that was refreshed before it was over it has what the logs held by then.
    """
    corpus = run.state.corpus_date(live)
    if corpus != run.day or version_date(live) == run.day:
        return corpus >= run.day
    made = attempts.latest(run.pipeline, run.day, REFRESH.name)
    if made is None or made.summary["version"] != live:
        return False
    tasks = (plan_refresh(run, None, "auto", unasked=unasked) for unasked in (False, True))
    return any(is_current(run, task, made) for task in tasks)


def _needs_somebody(error: BaseException, *, unasked: bool) -> bool:
    """Whether somebody is told of an error that ended a refresh: not where it is tried again. After a
    refused day, which was told, neither where features changed since the towers were trained, nor of
    what was refused before.
    """
    if isinstance(error, TryAgain | RunnerFailed):
        return False
    is_known = isinstance(error, UsageError) or (isinstance(error, GateRefused) and error.is_found)
    return not (unasked and is_known)
