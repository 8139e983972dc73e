"""A stage of a day as a task: it is planned first, and then run, unless it is already done.

A plan has the attempts that the stage reads, its mode, its parent, and all inputs of its key. If
the newest committed attempt has this key, the stage is done. Otherwise a new attempt is made.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from twinspire.runs.day_run import DayRun, find_start
from twinspire.runs.mlflow_tracking import record_in_mlflow
from twinspire.runs.notifications import notify
from twinspire.runs.stages import (
    STAGES,
    Stage,
    StageFunction,
    config_digest,
    digest,
    output_digest,
    stage_key,
)
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import (
    NO_START,
    Attempt,
    Gap,
    Mode,
    Parent,
    Promote,
    Reuse,
    StageContext,
)
from twinspire_core.contracts.json_files import Timings
from twinspire_core.errors import (
    GateRefused,
    ParentChanged,
    UsageError,
    format_message,
)
from twinspire_core.native_code import block_tensorflow_extras, suppress_native_stderr
from twinspire_core.terminal import console


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """A stage of a day that is to be done.

    Attributes:
      facts: what its output is a function of, besides the pipeline file.
      context: what it is given. The runner adds the folder that it writes to, and the gaps.
      load: imports the function that makes it, and returns that.
      parent: the version that the attempt will name as its parent.
    """

    stage: Stage
    facts: Mapping[str, Any]
    context: StageContext
    load: Callable[[], StageFunction]
    parent: str | None

    @property
    def config(self) -> str:
        """Digest of what the stage reads of the pipeline file."""
        return config_digest(self.context.pipeline, self.stage)

    @property
    def key(self) -> str:
        """Digest of everything that the output is a function of."""
        return stage_key(self.stage, config=self.config, **self.facts)


def plan_stage(run: DayRun, stage: Stage, mode: Mode, promote: Promote) -> StageTask:
    """Plans a stage of a day: finds its inputs.

    Args:
      run: of the day; its log has just been read.
      mode: as asked for; without a parent it is `full`.

    Raises:
      UsageError: an earlier stage is not done, or was done from something else.
      ParentChanged: the day was trained from another parent than it has now.
    """
    earlier = _earlier_attempts(run, stage)
    nearest = earlier[stage.after] if stage.after else None
    parent = run.parent()
    if nearest and not stage.takes_mode:
        # The mode that the day was trained in, whatever is asked for now
        mode = nearest.mode
    elif parent is None:
        mode = "full"
    if stage.takes_mode and mode == "full" and nearest and nearest.mode != "full":
        raise UsageError(
            "Training from scratch needs the examples of the whole training window; the features of"
            f" {run.day} were made with --mode incremental, for one day only. Run `twinspire features"
            f" PIPELINE --date {run.day} --mode full` first."
        )
    if stage.same_parent_as:
        _check_parent(run.day, earlier[stage.same_parent_as], parent)
    # Other settings to start from give another index, so they must be in the key
    start = NO_START
    if stage.starts_from_settings:
        start = find_start(run, parent.version if parent else None)
    replays = stage.reads_source and _replays(run, stage, parent)
    digests = source_digests(run, mode, replays=replays) if stage.reads_source else {}
    context = StageContext(
        pipeline=run.pipeline,
        day=run.day,
        mode=mode,
        parent=parent,
        inputs={name: attempt.uri for name, attempt in earlier.items()},
        out="",
        promote=promote,
        best=run.best() if stage.waits_for_turn else None,
        start=start,
        reuse=Reuse(partials=attempts.partials_folder(run.pipeline), digests=digests),
        replays=replays,
    )
    return StageTask(
        stage=stage,
        facts=_facts(stage, context, earlier, digests),
        context=context,
        load=stage.load,
        parent=parent.version if parent else None,
    )


def _facts(
    stage: Stage,
    context: StageContext,
    earlier: Mapping[str, Attempt],
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """What the output of a stage depends on, besides the pipeline file."""
    facts: dict[str, Any] = {
        "day": str(context.day),
        # Digests of contents and no paths: a shop that was copied to another folder stays done
        "inputs": {name: attempt.output for name, attempt in earlier.items()},
        # None where the stage does not depend on it
        "mode": context.mode if stage.takes_mode else None,
        "parent": context.parent.version if stage.inherits and context.parent else None,
        "promote": context.promote if stage.publishes else None,
        "source": digest(digests) if stage.reads_source else None,
    }
    # Left out if empty, so that the keys of days without them do not change
    optional = {
        "best": context.besides.version if context.besides else None,
        "settings": context.start.version,
        "replays": context.replays,
    }
    return facts | {name: value for name, value in optional.items() if value}


def _replays(run: DayRun, stage: Stage, parent: Parent | None) -> bool:
    """Whether the stage replays earlier days."""
    from twinspire_core.contracts.ranker_files import needs_replay

    if not run.pipeline.sources.several:
        return False
    # If days run at the same time, a day may get a parent only after its features were made. Features with
    # a replay then stay valid
    done = attempts.latest(run.pipeline, run.day, stage.name)
    return bool(done and done.summary.get("replayed")) or needs_replay(run.day, parent)


def late_events(pipeline: Pipeline, day: date) -> int:
    """How many late events a day has that its features were not made with (`source.late_days`); 0 if the
    folder of a later day cannot be read.
    """
    from beam_jobs.ingest.day_files import later_files
    from beam_jobs.point_in_time import job

    if not pipeline.source.late_days:
        return 0
    done = attempts.latest(pipeline, day, "features")
    if done is None:
        return 0
    late = job.find_late_events(pipeline, day, later_files(pipeline, day))
    # By digest, because the same events may be in other files now
    learned = done.summary.get("late", {}).get("digest", "")
    return 0 if late.unreadable or late.digest == learned else late.events


def _earlier_attempts(run: DayRun, stage: Stage) -> dict[str, Attempt]:
    """Attempts of the earlier stages, nearest first: the newest of the stage before, and those that
    this one was made from.
    """
    if stage.after is None:
        return {}
    day = run.day
    nearest = attempts.latest(run.pipeline, day, stage.after)
    if nearest is None:
        raise _missing(run, stage, stage.after)
    # Not simply the newest attempt of each stage: the nearest one may have been made from older ones
    earlier = {stage.after: nearest}
    for name, attempt_name in nearest.inputs.items():
        try:
            made_from = attempts.read(attempts.place(run.pipeline, attempt_name))
        except FileNotFoundError as error:  # deleted by `prune` or `forget`
            raise _missing(run, stage, name) from error
        newest = attempts.latest(run.pipeline, day, name)
        # A newer attempt with the same bytes counts, because it has the current settings
        is_remade = newest and newest.output == made_from.output
        earlier[name] = newest if newest and is_remade else made_from
    for name, attempt in earlier.items():
        if attempt.config != config_digest(run.pipeline, STAGES[name]):
            raise UsageError(
                f"{stage.name} of {day} needs an output of {name} from the current pipeline file;"
                f" {attempt.uri} was made before the file changed. Run `twinspire {name} PIPELINE"
                f" --date {day}` and the later stages again."
            )
    return earlier


def _missing(run: DayRun, stage: Stage, name: str) -> UsageError:
    return UsageError(
        f"{stage.name} of {run.day} needs the output of {name}, but there is none in"
        f" {attempts.day_uri(run.pipeline, run.day)}. Run `twinspire {name} PIPELINE --date"
        f" {run.day}` first, or `twinspire run PIPELINE --date {run.day}` for all stages."
    )


def _check_parent(day: date, trained: Attempt, parent: Parent | None) -> None:
    version = parent.version if parent else None
    if trained.parent != version:
        raise ParentChanged(
            "A version must be published with the parent that it was trained from. The parent of"
            f" {day} was {trained.parent}, and is now {version}, because an earlier day was filled in"
            " or rolled back. Run the day again: `twinspire run PIPELINE"
            f" --date {day}`."
        )


def source_digests(
    run: DayRun, scope: Mode | Literal["served"], *, replays: bool = False
) -> dict[str, str]:
    """Digests of all files that a run of the day reads, by URI."""
    from beam_jobs.ingest import day_files

    return day_files.fingerprint(run.pipeline, run.day, scope, run.log_digests, replays=replays)


def complete(run: DayRun, task: StageTask, *, force: bool, began: float) -> dict[str, Any]:
    """Does a task, unless it is done.

    Args:
      began: when the command began to plan the task, by `time.monotonic`.

    Returns:
      The stage's summary with `stage`, `day`, `status` (`done` or `already done`), `attempt` and `seconds`. If it
      publishes a version, also whether that is live now, and its addresses.

    Raises:
      GateRefused: the version was stored, but does not go live.
    """
    # Only the newest attempt can be the result: an older one with this key would be wrong once a change was
    # made and undone
    attempt = attempts.latest(run.pipeline, run.day, task.stage.name)
    status = "already done"
    if attempt is None or force or not is_current(run, task, attempt):
        attempt = _make(run, task)
        status = "done"
    elif task.stage.reads_source:
        _report_late_events(run)
    result = {
        "stage": task.stage.name,
        "day": str(run.day),
        "status": status,
        "attempt": attempt.uri,
        **attempt.summary,
    }
    if task.stage.publishes:
        # Also for an old attempt, so that a refused day stays red however often it is run
        _raise_if_refused(run, attempt, is_found=status == "already done")
        # This stage has added entries to the log, and other processes may have, too
        run.read_log()
        version = attempt.summary["version"]
        record_in_mlflow(run.pipeline, version)
        # The attempt's summary only says what was live when it was made
        result |= {"live": run.state.live == version, **run.addresses(version)}
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def is_current(run: DayRun, task: StageTask, attempt: Attempt) -> bool:
    """Whether a task's newest attempt has the key that a new attempt would have."""
    if attempt.key != task.key:
        return False
    # `prune` or `forget` may have deleted its inputs, which later stages read, too
    there = {attempts.name(run.pipeline, uri) for uri in task.context.inputs.values()}
    for name in set(attempt.inputs.values()) - there:
        if not storage.exists(attempts.place(run.pipeline, f"{name}/{attempts.DONE}")):
            return False
    # What it published may have been pruned, too
    return not task.stage.publishes or run.is_kept(attempt.summary["version"])


def _make(run: DayRun, task: StageTask) -> Attempt:
    """Runs a task in a new folder, and commits what it made."""
    stage = task.stage
    out = attempts.begin(run.pipeline, run.day, stage.name)
    context = replace(task.context, out=out)
    if stage.waits_for_turn:
        context = replace(context, gaps=_report_gaps(run, task))
    # TensorFlow prints many lines when it is imported
    with suppress_native_stderr(), block_tensorflow_extras():
        function = task.load()
    # Outside of the block, so that the progress of the stage is shown
    summary = function(context)
    if stage.output_is_version:
        output = summary["version"]
    else:
        # Without files that differ between equal runs: with them, repeating a stage would make later stages
        # stale
        output = output_digest(out, (Timings.FILE, *stage.derived))
    attempt = Attempt(
        uri=out,
        key=task.key,
        config=task.config,
        output=output,
        mode=context.mode,
        parent=task.parent,
        inputs={name: attempts.name(run.pipeline, uri) for name, uri in context.inputs.items()},
        summary=summary,
    )
    # Last: if the run is killed before this line, the attempt does not exist for others
    attempts.commit(attempt)
    return attempt


def _raise_if_refused(run: DayRun, attempt: Attempt, *, is_found: bool) -> None:
    """Reports the gate's reasons, if it refused the version.

    Args:
      is_found: whether the stage was already done, so that somebody may have been notified before.
    """
    if reasons := attempt.summary.get("refused"):
        version = attempt.summary["version"]
        raise GateRefused(
            f"The gate refused {version}. It does not go live:\n"
            + "\n".join(f"  - {reason}" for reason in reasons)
            + f'\nTo overrule it: twinspire promote PIPELINE {version} --despite-gate "REASON"',
            run.addresses(version),
            is_found=is_found,
        )


def _report_gaps(run: DayRun, task: StageTask) -> tuple[Gap, ...]:
    """Reports the days that were left out between the parent's day and the day."""
    parent = task.context.parent
    if parent is None or task.context.mode == "full":
        return ()
    gaps = run.gaps_since(parent.day)
    for gap in gaps:
        text = (
            f"{run.day} goes on from {parent.day}: {gap.first} to {gap.last} have logs but no"
            f" accepted version. To fill the gap first: {gap.command('PIPELINE')}"
        )
        console.print(format_message(text), soft_wrap=True)
        notify(run.pipeline, "gap", run.day, text, command=gap.command("PIPELINE"))
    return tuple(gaps)


def _report_late_events(run: DayRun) -> None:
    """Reports events of a day that came after it was done."""
    if late := late_events(run.pipeline, run.day):
        again = f"twinspire run PIPELINE --date {run.day} --late"
        text = (
            f"{late:,} events of {run.day} came after it was run. The day stays as it is. To run it"
            " again:"
        )
        console.print(format_message(f"{text} {again}"), soft_wrap=True)
        notify(run.pipeline, "late_events", run.day, text, command=again)
