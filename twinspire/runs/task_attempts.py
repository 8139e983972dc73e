"""Attempts at a task: whether the newest one is what would be made now, and making a new one.

A stage's key is the digest of all that its output is a function of. If the newest committed attempt
has that key, the stage is done.
"""

from dataclasses import replace

from twinspire.runs.cache_keys import config_digest, output_digest, stage_key
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify
from twinspire.runs.stage_tasks import StageTask, unread_events
from twinspire_core import storage
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt, Gap
from twinspire_core.contracts.json_files import Timings
from twinspire_core.errors import BadData, GateRefused, format_message
from twinspire_core.library_loading import block_tensorflow_extras, suppress_native_stderr
from twinspire_core.terminal import console


def complete(run: DayRun, task: StageTask, *, force: bool) -> tuple[Attempt, str]:
    """Finds a task done, or does it: its committed attempt, and `already done` or `done`.

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
        # Also of an attempt that was found: a refused day stays red however often it is run.
        raise_if_refused(attempt, is_found=status == "already done")
        run.read_log()  # which this stage, or others meanwhile, have added to
    return attempt, status


def is_current(run: DayRun, task: StageTask, attempt: Attempt) -> bool:
    """Whether a task's newest attempt is what would be made now."""
    config = config_digest(run.pipeline, task.stage)
    if attempt.key != stage_key(task.stage, config=config, **task.facts):
        return False
    # Pruned, or deleted to forget a user: the next stage would miss them
    there = {attempts.name(run.pipeline, uri) for uri in task.context.inputs.values()}
    for name in set(attempt.inputs.values()) - there:
        if not storage.exists(attempts.place(run.pipeline, f"{name}/{attempts.DONE}")):
            return False
    if not task.stage.publishes:
        return True
    # What it published may have been pruned since.
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
    # The last thing of all: without its marker an attempt does not exist, whoever is killed when.
    attempts.commit(attempt)
    return attempt


def raise_if_refused(attempt: Attempt, *, is_found: bool = False) -> None:
    """Tells the gate's reasons, also when the stage was already done, which `is_found` says.

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
    """Days that were left out between the parent that is gone on from and the day."""
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
    """Says that events of a day that is done have come since. What is wrong with a later day's logs
    does not matter.
    """
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
