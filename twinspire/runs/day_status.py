"""What became of each day (published, refused, stale, missing and so on), and the command that helps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import get_args

from index_builder.registry.versions import Status
from twinspire.runs import run_leases
from twinspire.runs.day_run import DayRun
from twinspire.runs.run_leases import FAILED, KILLED, LATE, OPEN, PUBLISHED, REFUSED, SKIPPED
from twinspire.runs.stage_tasks import StageTask, is_current, late_events, plan_stage
from twinspire.runs.stages import STAGES, Stage, config_digest
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, partials
from twinspire_core.contracts.attempts import Attempt, Promote
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.errors import TwinspireError, with_full_stop

ROLLED_BACK = "rolled back"
STALE = "stale"
MISSING = "missing"
UNDER_WAY = "under way"
NO_LOGS = "no logs"
_UNPUBLISHED = (FAILED, KILLED, LATE, SKIPPED)
"""How runs end without a version. A run that published has one, unless it has been pruned."""
_LATER_RUNS = {"failed": "Its last run failed", "killed": "Its last run was killed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DayStatus:
    """A day.

    Attributes:
      day: the day.
      state: one of the words above.
      reason: why it is in that state; may be empty.
      version: its newest version, if it has one.
      live: whether that version is live.
      late_events: how many of its events came after it was run.
      work_bytes: size of its working files.
      version_bytes: size of its stored versions.
      partial_bytes: size of the caches of its logs.
      from_scratch: whether it cannot go on from its parent, because the parent's working files are gone.
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
    from_scratch: bool = False

    @property
    def trains(self) -> bool:
        """Whether running it helps: it has no version yet."""
        return self.state in (MISSING, FAILED, KILLED, LATE)

    def remedy(self) -> str:
        """The command that helps; empty if nothing is to be done."""
        if self.trains:
            mode = " --mode full" if self.from_scratch else ""
            return f"twinspire run PIPELINE --date {self.day}{mode}"
        match self.state:
            case "stale":
                late = " --late" if self.late_events else ""
                return f"twinspire run PIPELINE --date {self.day}{late}"
            case "refused" | "rolled back":
                return f"twinspire show PIPELINE {self.version}"
            case "under way":
                return f"twinspire close-day PIPELINE --date {self.day}"
            case _:
                return ""


def day_statuses(
    pipeline: Pipeline, first: date | None = None, last: date | None = None, *, most: int = 30
) -> Iterator[DayStatus]:
    """Looks at days one by one, oldest first. With large logs a day may take a second.

    Args:
      first: the first day; by default the first that was run (or has logs, where none was), but
        at most `most` days up to the newest that was run.
      last: the last day; by default the newest that was run or has logs, and then days that were only
        tried.
      most: how many days at most, without `first`.
    """
    from beam_jobs.ingest import day_files

    with_logs = set(day_files.folder_days(pipeline, "events"))
    worked_on = set(attempts.days(pipeline))
    days = _days_shown(pipeline, with_logs, worked_on, first, last, most)
    if not days:
        return
    run = DayRun(pipeline, days[-1])
    newest = {
        one.date: one
        for one in reversed(run.registry.statuses())
        # A refused refresh says nothing about the day whose towers it has
        if not (one.refreshes and one.status in (REFUSED, ROLLED_BACK))
    }
    kept = partials.by_day(partials.place(pipeline))
    without_state: set[str] = set()
    for day in days:
        of_day = run.of_day(day)
        found = _status(of_day, newest.get(day), day in with_logs, day in worked_on)
        runs = found.trains and day in with_logs
        gone = _parent_without_state(of_day) if runs else None
        # Only the first day starts from scratch: the days after it go on from it
        if gone and gone not in without_state:
            without_state.add(gone)
            why = f"The working files of its parent, {gone}, are gone."
            found = replace(found, from_scratch=True, reason=f"{found.reason} {why}".strip())
        yield replace(found, partial_bytes=kept.get(day, 0))


def _days_shown(
    pipeline: Pipeline,
    with_logs: set[date],
    worked_on: set[date],
    first: date | None,
    last: date | None,
    most: int,
) -> list[date]:
    """The days that `day_statuses` looks at, oldest first. Days that have no logs and were only tried
    move no bound: where logs are old, a run without a date tries yesterday.
    """
    run = {day for day in worked_on if day in with_logs or attempts.was_run(pipeline, day)}
    known = with_logs | run or worked_on
    if not known:
        return []
    end = last or max(known)
    if first is None:
        # Counted back from the newest day that was run: logs may continue long after it
        newest_run = max(run, default=end)
        first = max(min(run or known), newest_run - timedelta(days=most - 1))
    shown = [first + timedelta(days=n) for n in range((end - first).days + 1)]
    if last is None:
        shown += sorted(day for day in worked_on if day > end and day >= first)
    return shown


def _parent_without_state(run: DayRun) -> str | None:
    """The version that a day would go on from, if the state of its training is gone."""
    from twinspire_core.contracts import model_bundle

    try:
        parent = run.parent()
    except TwinspireError:
        # The version is gone, too: `twinspire versions` shows that
        return None
    if parent is None or model_bundle.has_state(parent.train):
        return None
    return parent.version


def _status(run: DayRun, newest: Status | None, has_folder: bool, worked_on: bool) -> DayStatus:
    """A day's status.

    Args:
      newest: its newest version in the registry's log.
      has_folder: whether its logs have a folder.
      worked_on: whether it has working files.
    """
    outcome = run_leases.state(run.pipeline, run.day) if worked_on else None
    state, reason = _state(run, newest, outcome, has_folder=has_folder)
    late = 0
    if state in (PUBLISHED, REFUSED):
        late = late_events(run)
    if state == PUBLISHED and newest and newest.stored:
        changed = why_stale(run)
        if late:
            changed = f"{late:,} events came after it was run. {changed}".strip()
        if changed:
            state, reason = STALE, changed
    if state == PUBLISHED and newest and newest.status == "live" and not reason:
        verdict = GateVerdict.find(run.registry.folder(newest.version))
        if verdict and (why := verdict.why_not_trees):
            reason = with_full_stop(why)
    return DayStatus(
        day=run.day,
        state=state,
        reason=reason,
        version=newest.version if newest else None,
        live=newest is not None and newest.status == "live",
        late_events=late,
        work_bytes=_size(attempts.day_uri(run.pipeline, run.day)) if worked_on else 0,
        version_bytes=_version_bytes(run, newest),
    )


def _state(
    run: DayRun, newest: Status | None, outcome: str | None, *, has_folder: bool
) -> tuple[str, str]:
    """The state of a day, stale or not, and what is to be known besides."""
    if outcome == OPEN:
        return UNDER_WAY, ""
    ended = outcome if outcome in _UNPUBLISHED else ""
    why = ""
    if ended == "failed" and (known := run_leases.last_reason(run.pipeline, run.day)):
        why = with_full_stop(known)
    if newest is None:
        return _without_version(run, ended, why, has_folder=has_folder)
    # A version stays what it is, whatever became of a later run of its day.
    if newest.status in (REFUSED, ROLLED_BACK):
        return newest.status, newest.reason
    if ended not in _LATER_RUNS:
        return PUBLISHED, ""
    return PUBLISHED, f"{_LATER_RUNS[ended]}: {why}" if why else f"{_LATER_RUNS[ended]}."


def _without_version(run: DayRun, ended: str, why: str, *, has_folder: bool) -> tuple[str, str]:
    from beam_jobs.ingest import day_files

    there = has_folder and bool(day_files.files(run.pipeline, "events", run.day))
    if ended in ("late", "skipped") and not there:
        return ended, "It had no logs when it was run, and has none now."
    if ended == "late":
        return ended, "Its logs were not there, or not whole, when it was run; now there are some."
    if ended:
        return ended, why
    if there:
        return MISSING, "There are logs, and it was never run."
    return NO_LOGS, ""


def _size(folder: str) -> int:
    return sum(file.size for file in storage.list_files(folder))


def _version_bytes(run: DayRun, newest: Status | None) -> int:
    if newest is None or not newest.stored:
        return 0
    return sum(file.size for file in run.registry.manifest(newest.version).files.values())


def why_stale(run: DayRun) -> str:
    """What has changed since a day was run, for the first stage that would be done again.

    Args:
      run: of the day; its log has been read.

    Returns:
      A sentence; empty if nothing has changed, or if the day's working files are gone.
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


def _tasks(run: DayRun, stage: Stage, attempt: Attempt) -> list[StageTask]:
    """The stage as it would be done now in its attempt's mode."""
    # With which `--promote` a version was published is not recorded, and does not change it
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
