"""A stage of a day as a task: planned, then found done or done.

A plan says which attempts the stage reads, its mode, its parent, and all that its key is made of. If
the newest committed attempt has that key, the stage is done; else it is made in a new attempt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from twinspire.runs.day_run import DayRun
from twinspire.runs.index_start import find_start
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
from twinspire_core.contracts import attempts, partials
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
    BadData,
    GateRefused,
    ParentChanged,
    TwinspireError,
    UsageError,
    format_message,
)
from twinspire_core.library_loading import block_tensorflow_extras, suppress_native_stderr
from twinspire_core.terminal import console


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """A stage of a day, to be found done or to be made.

    Attributes:
      stage: the stage.
      facts: what its output is a function of, besides the pipeline file.
      context: what it is given. The runner adds the folder that it writes to, and the gaps.
      load: imports what makes it, and gives the function.
      parent: the version that the attempt will name as its parent.
    """

    stage: Stage
    facts: Mapping[str, Any]
    context: StageContext
    load: Callable[[], StageFunction]
    parent: str | None


def plan_stage(
    run: DayRun, stage: Stage, mode: Mode, promote: Promote, *, reuse: bool = True
) -> StageTask:
    """Finds what one of a day's stages is made from.

    Args:
      run: of the day; its log has just been read.
      mode: as asked for; without a parent it is `full`.
      reuse: whether what earlier runs made of logs is used, and added to.

    Raises:
      UsageError: an earlier stage is not done, or was done for something else. ParentChanged: the
      day was trained from another parent than it has now.
    """
    earlier = _earlier_attempts(run, stage)
    nearest = earlier[stage.after] if stage.after else None
    parent = run.parent()
    if nearest and not stage.takes_mode:
        mode = nearest.mode  # as the day was trained, whatever is asked for now
    elif parent is None:
        mode = "full"
    if nearest and stage.takes_mode:
        _check_mode(run.day, mode, nearest)
    if stage.same_parent_as:
        _check_parent(run.day, earlier[stage.same_parent_as], parent)
    # Other settings make another index, so they are in the key, too
    best = run.best() if stage.measures_best else None
    start = NO_START
    if nearest and stage.starts_from_settings:
        start = find_start(run, nearest.output)
    replays = stage.replays and _replays(run, stage, parent)
    digests = source_digests(run, mode, replays=replays) if stage.reads_source else {}
    context = StageContext(
        pipeline=run.pipeline,
        day=run.day,
        mode=mode,
        parent=parent,
        inputs={name: attempt.uri for name, attempt in earlier.items()},
        out="",
        promote=promote,
        best=best,
        start=start,
        reuse=Reuse(partials=partials.place(run.pipeline), digests=digests) if reuse else None,
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
    """What the output of a stage depends on besides the pipeline file."""
    facts: dict[str, Any] = {
        "day": str(context.day),
        "inputs": {name: attempt.output for name, attempt in earlier.items()},
        # None where the stage does not depend on it
        "mode": context.mode if stage.takes_mode else None,
        "parent": context.parent.version if stage.inherits and context.parent else None,
        "promote": context.promote if stage.publishes else None,
        "source": digest(digests) if stage.reads_source else None,
    }
    # Left out if empty, so that keys of days without them stay as they are
    optional = {
        "best": context.besides.version if context.besides else None,
        "settings": context.start.version,
        "replays": context.replays,
    }
    return facts | {name: value for name, value in optional.items() if value}


def _replays(run: DayRun, stage: Stage, parent: Parent | None) -> bool:
    """Whether the stage replays days before the day. What was done with a replay stays done when the
    day gets a parent later, as days that run at the same time do.
    """
    from twinspire_core.contracts.ranker_files import needs_replay

    if not run.pipeline.sources.several:
        return False
    done = attempts.latest(run.pipeline, run.day, stage.name)
    return bool(done and done.summary.get("replayed")) or needs_replay(run.day, parent)


def unread_events(pipeline: Pipeline, day: date) -> int:
    """How many late events a day has (`source.late_days`); 0 if its features were made with them.

    Raises:
      BadData: the folder of a later day cannot be read.
    """
    from beam_jobs.ingest import late_events

    if not pipeline.source.late_days:
        return 0
    done = attempts.latest(pipeline, day, "features")
    if done is None:
        return 0
    late = late_events.look(pipeline, day)
    if late.unreadable:
        raise BadData("\n".join(late.unreadable.values()))
    # By digest: the same events may be in other files by now
    learned = done.summary.get("late", {}).get("digest", "")
    return late.events if late.digest != learned else 0


def late_events(run: DayRun) -> int:
    """As `unread_events`; 0 if a folder cannot be read."""
    try:
        return unread_events(run.pipeline, run.day)
    except TwinspireError:
        return 0


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
    # Not the newest attempt of each stage, but those that the nearest was made from
    earlier = {stage.after: nearest}
    for name, attempt_name in nearest.inputs.items():
        try:
            made_from = attempts.read(attempts.place(run.pipeline, attempt_name))
        except FileNotFoundError as error:  # pruned, or deleted to forget a user
            raise _missing(run, stage, name) from error
        newest = attempts.latest(run.pipeline, day, name)
        # Another setting may have made the same bytes again since: then the newer attempt counts
        is_remade = newest and newest.output == made_from.output
        earlier[name] = newest if newest and is_remade else made_from
    for name, attempt in earlier.items():
        if attempt.config != config_digest(run.pipeline, STAGES[name]):
            raise UsageError(
                f"{stage.name} of {day} needs an output of {name} made from this pipeline file;"
                f" {attempt.uri} was made before the file changed. Run `twinspire {name} PIPELINE"
                f" --date {day}` and what follows it again."
            )
    return earlier


def _missing(run: DayRun, stage: Stage, name: str) -> UsageError:
    return UsageError(
        f"{stage.name} of {run.day} needs the output of {name}, and there is none under"
        f" {attempts.day_uri(run.pipeline, run.day)}. Run `twinspire {name} PIPELINE --date"
        f" {run.day}` first, or `twinspire run PIPELINE --date {run.day}` for all stages."
    )


def _check_mode(day: date, mode: Mode, features: Attempt) -> None:
    if mode == "full" and features.mode != "full":
        raise UsageError(
            f"Training from scratch needs the examples of the whole training window; those of {day}"
            " were made in mode incremental, for the day alone. Run `twinspire features PIPELINE"
            f" --date {day} --mode full` first."
        )


def _check_parent(day: date, trained: Attempt, parent: Parent | None) -> None:
    version = parent.version if parent else None
    if trained.parent != version:
        raise ParentChanged(
            "A version is published with the parent that it was trained from and measured against;"
            f" {day} was trained when that was {trained.parent}, and now it is {version}: a day was"
            f" filled in or rolled back since. Run the day again: `twinspire run PIPELINE --date {day}`."
        )


def source_digests(
    run: DayRun, scope: Mode | Literal["served"], *, replays: bool = False
) -> dict[str, str]:
    """Digests of all files that a run of the day reads, by URI."""
    from beam_jobs.ingest import day_files

    return day_files.fingerprint(run.pipeline, run.day, scope, run.log_digests, replays=replays)


def complete(run: DayRun, task: StageTask, *, force: bool) -> tuple[Attempt, str]:
    """Finds a task done, or does it. Returns its committed attempt, and `already done` or `done`.

    Raises:
      GateRefused: as `raise_if_refused`.
    """
    attempt = attempts.latest(run.pipeline, run.day, task.stage.name)
    status = "already done"
    if attempt is None or force or not is_current(run, task, attempt):
        config = config_digest(run.pipeline, task.stage)
        key = stage_key(task.stage, config=config, **task.facts)
        attempt = _make(run, task, key=key, config=config)
        status = "done"
    elif task.stage.reads_source:
        _report_late_events(run)
    if task.stage.publishes:
        # Also if the attempt was there: a refused day stays red however often it is run
        raise_if_refused(attempt, is_found=status == "already done")
        run.read_log()  # this stage has added to the log, and others may have
    return attempt, status


def is_current(run: DayRun, task: StageTask, attempt: Attempt) -> bool:
    """Whether a task's newest attempt is what would be made now."""
    config = config_digest(run.pipeline, task.stage)
    if attempt.key != stage_key(task.stage, config=config, **task.facts):
        return False
    # Its inputs may be pruned, or deleted to forget a user: the next stage would miss them
    there = {attempts.name(run.pipeline, uri) for uri in task.context.inputs.values()}
    for name in set(attempt.inputs.values()) - there:
        if not storage.exists(attempts.place(run.pipeline, f"{name}/{attempts.DONE}")):
            return False
    if not task.stage.publishes:
        return True
    # What it published may have been pruned since
    return run.is_kept(attempt.summary["version"])


def _make(run: DayRun, task: StageTask, *, key: str, config: str) -> Attempt:
    """Runs a task in a fresh folder, and commits what it made."""
    stage = task.stage
    out = attempts.begin(run.pipeline, run.day, stage.name)
    context = replace(task.context, out=out)
    if stage.waits_for_turn:
        context = replace(context, gaps=_report_gaps(run, task))
    # Beam's, which only remote workers need
    clouds = () if run.pipeline.beam.options else ("google.cloud",)
    with suppress_native_stderr(), block_tensorflow_extras(*clouds):  # TensorFlow greets at length
        function = task.load()
    summary = function(context)  # outside of the block: its own progress is to be seen
    if stage.output_is_version:
        output = summary["version"]
    else:
        output = output_digest(context.out, (Timings.FILE, *stage.derived))
    attempt = Attempt(
        uri=context.out,
        key=key,
        config=config,
        output=output,
        mode=context.mode,
        parent=task.parent,
        inputs={name: attempts.name(run.pipeline, uri) for name, uri in context.inputs.items()},
        summary=summary,
    )
    # Last of all: whenever a run is killed, an attempt without its marker does not exist
    attempts.commit(attempt)
    return attempt


def raise_if_refused(attempt: Attempt, *, is_found: bool = False) -> None:
    """Reports the gate's reasons, if it refused the version.

    Args:
      is_found: whether the stage was already done, so that somebody may have been told before.

    Raises:
      GateRefused: the version was stored, and is not live.
    """
    if reasons := attempt.summary.get("refused"):
        version = attempt.summary.get("version")
        raise GateRefused(
            f"The gate refused {version}, which does not go live.\n"
            + "\n".join(f"  - {reason}" for reason in reasons)
            + f'\nTo overrule it: twinspire promote PIPELINE {version} --despite-gate "REASON"',
            version,
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
            f"{run.day} goes on from {parent.day}: {gap.first} to {gap.last} have logs and no"
            f" accepted version. To fill the gap first: {gap.command('PIPELINE')}"
        )
        console.print(format_message(text), soft_wrap=True)
        notify(run.pipeline, "gap", run.day, text, command=gap.command("PIPELINE"))
    return tuple(gaps)


def _report_late_events(run: DayRun) -> None:
    """Reports events of a day that came after it was done. Broken logs of a later day stop nothing."""
    try:
        late = unread_events(run.pipeline, run.day)
    except BadData as error:
        text = f"Whether events of {run.day} came late since cannot be told: "
        console.print(text + format_message(error), soft_wrap=True)
        return
    if late:
        again = format_message(f"twinspire run PIPELINE --date {run.day} --late")
        text = (
            f"{late:,} events of {run.day} came late, others than it was run with; it stays as it"
            " is. To run it again:"
        )
        console.print(f"{text} {again}", soft_wrap=True)
        notify(run.pipeline, "late_events", run.day, text, command=again)
