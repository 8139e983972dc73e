"""The state of each day (published, refused, stale, missing and so on), and the command that helps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import get_args

from index_builder.registry.versions import Status
from twinspire.runs import run_leases
from twinspire.runs.day_run import DayRun
from twinspire.runs.stage_tasks import StageTask, is_current, late_events, plan_stage
from twinspire.runs.stages import STAGES
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt, Promote
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.errors import TwinspireError, with_full_stop

# How runs end without a version
_UNPUBLISHED = ("failed", "killed", "late", "skipped")
_LATER_RUNS = {"failed": "Its last run failed", "killed": "Its last run was killed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DayStatus:
    """A day.

    Attributes:
      state: `published`, `refused`, `rolled back`, `stale`, `missing`, `no logs`, `under way`, or how its
        last run ended without a version.
      reason: why the day is in that state; may be empty.
      version: its newest version, if it has one.
      live: whether that version is live.
      late_events: how many of its events came after it was run.
      work_bytes: size of its working files.
      version_bytes: size of its newest version.
      partial_bytes: size of the caches of its logs.
    """

    day: date
    state: str
    reason: str = ""
    version: str | None = None
    live: bool = False
    late_events: int = 0
    work_bytes: int = 0
    version_bytes: int = 0
    partial_bytes: int = 0

    def remedy(self) -> str:
        """The command that helps; empty if nothing is to be done."""
        run = f"twinspire run PIPELINE --date {self.day}"
        commands = {
            **dict.fromkeys(("missing", "failed", "killed", "late"), run),
            "stale": f"{run} --late" if self.late_events else run,
            **dict.fromkeys(("refused", "rolled back"), f"twinspire show PIPELINE {self.version}"),
            "under way": f"twinspire close-day PIPELINE --date {self.day}",
        }
        return commands.get(self.state, "")


def day_statuses(
    pipeline: Pipeline, first: date | None = None, last: date | None = None, *, most: int = 30
) -> Iterator[DayStatus]:
    """Looks at days one by one, oldest first. With large logs a day may take a second.

    Args:
      first: the first day. By default the first day that was run (or, if none was, the first with logs),
        but at most `most` days up to the newest that was run.
      last: the last day. By default the newest day that was run or has logs; days that were only tried
        follow.
      most: the largest number of days without `first`.
    """
    from beam_jobs.ingest import day_files

    with_logs = set(day_files.folder_days(pipeline, "events"))
    worked_on = set(attempts.days(pipeline))
    days = _days_shown(pipeline, with_logs, worked_on, first, last, most)
    if not days:
        return
    run = DayRun(pipeline, days[-1])
    # Oldest first, so that the newest version of a day replaces the others
    newest = {
        one.date: one
        for one in reversed(run.registry.statuses())
        # A refused refresh says nothing about the day that its towers were trained on
        if not (one.refreshes and one.status in ("refused", "rolled back"))
    }
    kept = attempts.partials_by_day(attempts.partials_folder(pipeline))
    for day in days:
        status = _status(run.of_day(day), newest.get(day), day in with_logs, day in worked_on)
        yield replace(status, partial_bytes=kept.get(day, 0))


def _days_shown(
    pipeline: Pipeline,
    with_logs: set[date],
    worked_on: set[date],
    first: date | None,
    last: date | None,
    most: int,
) -> list[date]:
    """The days that `day_statuses` looks at, oldest first."""
    # A day without logs that was only tried moves no bound: with old logs, `twinspire run` without a
    # date tries yesterday
    run = {day for day in worked_on if day in with_logs or attempts.was_run(pipeline, day)}
    known = with_logs | run or worked_on
    if not known:
        return []
    end = last or max(known)
    if first is None:
        # Counted back from the newest day that was run, because logs may continue long after it
        newest_run = max(run, default=end)
        first = max(min(run or known), newest_run - timedelta(days=most - 1))
    shown = [first + timedelta(days=n) for n in range((end - first).days + 1)]
    if last is None:
        shown += sorted(day for day in worked_on if day > end and day >= first)
    return shown


def _status(run: DayRun, newest: Status | None, has_folder: bool, worked_on: bool) -> DayStatus:
    """A day's status.

    Args:
      newest: its newest version in the registry's log.
      has_folder: whether its logs have a folder.
      worked_on: whether it has working files.
    """
    outcome = run_leases.state(run.pipeline, run.day) if worked_on else None
    state, reason = _state(run, newest, outcome, has_folder=has_folder)
    # Another day has yet to be run, and then reads all of its events.
    late = late_events(run.pipeline, run.day) if state in ("published", "refused") else 0
    if state == "published" and newest and newest.stored:
        changed = why_stale(run)
        if late:
            changed = f"{late:,} events came after it was run. {changed}".strip()
        if changed:
            state, reason = "stale", changed
    live = newest.version if newest and newest.status == "live" else None
    if state == "published" and live and not reason:
        verdict = GateVerdict.find(run.registry.folder(live))
        if verdict and (why := verdict.why_not_trees):
            reason = with_full_stop(why)
    stored = newest.version if newest and newest.stored else None
    files = run.registry.manifest(stored).files.values() if stored else ()
    work = storage.list_files(attempts.day_uri(run.pipeline, run.day)) if worked_on else ()
    return DayStatus(
        day=run.day,
        state=state,
        reason=reason,
        version=newest.version if newest else None,
        live=live is not None,
        late_events=late,
        work_bytes=sum(file.size for file in work),
        version_bytes=sum(file.size for file in files),
    )


def _state(
    run: DayRun, newest: Status | None, outcome: str | None, *, has_folder: bool
) -> tuple[str, str]:
    """The state of a day, stale or not, and the reason, which may be empty."""
    if outcome == "open":
        return "under way", ""
    ended = outcome if outcome in _UNPUBLISHED else ""
    why = ""
    if ended == "failed" and (known := run_leases.last_reason(run.pipeline, run.day)):
        why = with_full_stop(known)
    if newest is None:
        return _without_version(run, ended, why, has_folder=has_folder)
    # A version keeps its state, however a later run of its day ended
    if newest.status in ("refused", "rolled back"):
        return newest.status, newest.reason
    if ended not in _LATER_RUNS:
        return "published", ""
    return "published", f"{_LATER_RUNS[ended]}: {why}" if why else f"{_LATER_RUNS[ended]}."


def _without_version(run: DayRun, ended: str, why: str, *, has_folder: bool) -> tuple[str, str]:
    from beam_jobs.ingest import day_files

    # A folder may hold a marker alone, or nothing.
    there = has_folder and bool(day_files.files(run.pipeline, "events", run.day))
    if ended in ("late", "skipped") and not there:
        return ended, "It had no logs when it was run, and has none now."
    if ended == "late":
        return ended, "Its logs were missing or incomplete when it was run; now there are logs."
    if ended:
        return ended, why
    return ("missing", "It has logs, but was never run.") if there else ("no logs", "")


def why_stale(run: DayRun) -> str:
    """What has changed since a day was run, for the first stage that would be done again.

    Returns:
      A sentence; empty if nothing has changed, or if the day's working files are gone.
    """
    for stage in STAGES.values():
        attempt = attempts.latest(run.pipeline, run.day, stage.name)
        if attempt is None:
            return ""
        # The `--promote` of a publication is not recorded, and does not change the version
        ways: tuple[Promote, ...] = get_args(Promote) if stage.publishes else ("auto",)
        try:
            tasks = [plan_stage(run, stage, attempt.mode, promote) for promote in ways]
        except TwinspireError as error:
            return str(error)
        if not any(is_current(run, task, attempt) for task in tasks):
            return _what_changed(tasks[0], attempt)
    return ""


def _what_changed(task: StageTask, attempt: Attempt) -> str:
    stage = task.stage
    if attempt.config != task.config:
        return f"Keys of the pipeline file that {stage.name} reads have changed."
    if attempt.mode != task.context.mode:
        return f"It was trained in mode {attempt.mode}; now it would be {task.context.mode}."
    if stage.inherits and attempt.parent != task.parent:
        return f"Its parent was {attempt.parent}; now it would be {task.parent}."
    if stage.reads_source:
        return "Logs or snapshots that it reads have changed."
    if stage.publishes:
        return "Its version is no longer stored."
    return f"The inputs of {stage.name} have changed."
