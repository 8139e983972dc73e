"""Runs a stage of a day: finds its inputs, skips what is done, commits what it made.

A stage's key is the digest of all that its output is a function of. If the newest committed attempt
has that key, the stage is done.
"""

import time
from datetime import date
from typing import Any

from rich.console import Console

from twinspire.runs import run_leases
from twinspire.runs.cache_keys import DEFAULTS, config_digest, digest, output_digest, stage_key
from twinspire.runs.day_order import await_turn
from twinspire.runs.lineage import find_parent, find_start, is_kept, is_live, missing, unread
from twinspire.runs.stages import STAGES, Stage
from twinspire_core.blocked_imports import block_tensorflow_extras
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.contracts.stage_context import NOBODY, Gap, Mode, Parent, Promote, StageContext
from twinspire_core.contracts.timings import Timings
from twinspire_core.errors import BadData, GateRefused, NothingToDo, TryAgain, UsageError
from twinspire_core.messages import format_message
from twinspire_core.native_stderr import suppress_native_stderr

console = Console(stderr=True, highlight=False, markup=False)


def run_stage(
    pipeline: Pipeline,
    day: date,
    name: str,
    *,
    mode: Mode = "incremental",
    force: bool = False,
    promote: Promote = "auto",
    run: str | None = None,
) -> dict[str, Any]:
    """Runs one stage of one day, or finds it done.

    With `run`, the name of a run of the day that later days wait for, it is recorded that this run
    is under way, and how it ended.

    Returns: The stage's summary with `stage`, `day`, `status` (`done` or `already done`), `attempt`
      and `seconds`.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: an earlier day is unfinished,
      or the day's input
      is not there yet. NothingToDo: the day is empty. BadData, UsageError: as they say.
    """
    if run:
        run_leases.acquire_day(pipeline, day, run)
    try:
        told = _run_stage(pipeline, day, name, mode=mode, force=force, promote=promote)
    except BaseException as e:
        if run and (outcome := _outcome(name, e)):
            run_leases.release_day(pipeline, day, run, outcome)
        raise
    if run and name == "publish":
        run_leases.release_day(pipeline, day, run, "published")
    return told


def check_source(pipeline: Pipeline, day: date, run: str | None) -> dict[str, Any]:
    """Looks whether the day's logs are there and plausible. The run counts as under way from before
    it looks.

    Raises:
      TryAgain, NothingToDo, BadData: the day is late, empty or suspicious.
    """
    from beam_jobs.ingest import day_files

    if run:
        run_leases.acquire_day(pipeline, day, run)
    try:
        return day_files.check(pipeline, day)
    except BaseException as e:
        if run:
            run_leases.release_day(pipeline, day, run, _outcome("features", e) or "failed")
        raise


def _outcome(stage: str, error: BaseException) -> str | None:
    """How a run of the day ended by an error; None if it goes on when the stage is tried again."""
    if isinstance(error, TryAgain):
        return "late" if stage == "features" else None
    known = {GateRefused: "refused", NothingToDo: "skipped"}
    return next((outcome for kind, outcome in known.items() if isinstance(error, kind)), "failed")


def _run_stage(
    pipeline: Pipeline, day: date, name: str, *, mode: Mode, force: bool, promote: Promote
) -> dict[str, Any]:
    stage, started = STAGES[name], time.monotonic()
    if name == "features":
        from beam_jobs.ingest import day_files

        day_files.check(pipeline, day)
    if name == "train":
        await_turn(pipeline, day)
    parent = find_parent(pipeline, day)
    mode = mode if parent else "full"
    before = _inputs(pipeline, day, stage)
    if trained := before.get("train"):
        mode = trained.mode
        if name == "publish":
            _check_parent(day, trained, parent)
    elif name == "train":
        _check_mode(day, mode, before["features"])
    start = find_start(pipeline, day, before["embed"].output) if name == "index" else NOBODY
    facts = {
        "day": str(day),
        "inputs": {stage: attempt.output for stage, attempt in before.items()},
        "mode": mode if name in ("features", "train") else None,
        "parent": parent.version if parent and stage.inherits else None,
        "promote": promote if name == "publish" else None,
        "source": _source_digest(pipeline, day, mode) if name == "features" else None,
        **({"settings": start.version} if start.version else {}),
    }
    done = attempts.latest(pipeline, day, name)
    fresh = (
        force
        or done is None
        or done.key
        != stage_key(stage, config=config_digest(pipeline, stage, done.defaults), **facts)
        or (name == "publish" and not is_kept(pipeline, done.summary["version"]))
    )
    if fresh or done is None:  # the second for the type checker
        context = StageContext(
            pipeline=pipeline,
            day=day,
            mode=mode,
            parent=parent,
            inputs={stage: attempt.uri for stage, attempt in before.items()},
            out=attempts.begin(pipeline, day, name),
            promote=promote,
            gaps=_gaps(pipeline, day, parent, mode) if name == "train" else (),
            start=start,
        )
        config = config_digest(pipeline, stage)
        done = _make(stage, context, key=stage_key(stage, config=config, **facts), config=config)
    elif name == "features":
        _tell_late(pipeline, day)
    if name == "publish":
        raise_if_refused(done)
    told = (
        {**done.summary, "live": is_live(pipeline, done.summary["version"])}
        if name == "publish"
        else done.summary
    )
    return {
        "stage": name,
        "day": str(day),
        "status": "done" if fresh else "already done",
        "attempt": done.uri,
        "seconds": round(time.monotonic() - started, 1),
        "mode": mode,
        "parent": parent.version if parent else None,
        **told,
    }


def _inputs(pipeline: Pipeline, day: date, stage: Stage) -> dict[str, Attempt]:
    """Attempts of the earlier stages, nearest first: the last one's, and those that it was itself
    made from.
    """
    if stage.after is None:
        return {}
    nearest = attempts.latest(pipeline, day, stage.after)
    before = STAGES[stage.after]
    if nearest is None:
        raise UsageError(
            f"{stage.name} of {day} needs the output of {stage.after}, and there is none under"
            f" {attempts.day_uri(pipeline, day)}. Run `twinspire {stage.after} PIPELINE --date"
            f" {day}` first, or `twinspire run PIPELINE --date {day}` for all stages."
        )
    chain = {before.name: nearest} | {
        name: attempts.read(attempts.place(pipeline, attempt))
        for name, attempt in nearest.inputs.items()
    }
    for name, attempt in chain.items():
        if attempt.config != config_digest(pipeline, STAGES[name], attempt.defaults):
            raise UsageError(
                f"{stage.name} of {day} needs an output of {name} made from this pipeline file;"
                f" {attempt.uri} was made before the file changed. Run `twinspire {name} PIPELINE"
                f" --date {day}` and what follows it again."
            )
    return chain


def _make(stage: Stage, context: StageContext, *, key: str, config: str) -> Attempt:
    # Beam's, which only remote workers need
    clouds = () if context.pipeline.beam.options else ("google.cloud",)
    with suppress_native_stderr(), block_tensorflow_extras(*clouds):  # TensorFlow greets at length
        assert stage.load is not None
        run = stage.load()
    summary = run(context)
    attempt = Attempt(
        uri=context.out,
        key=key,
        config=config,
        output=output_digest(context.out, (Timings.FILE, *stage.derived)),
        mode=context.mode,
        parent=context.parent.version if context.parent else None,
        inputs={s: attempts.name(context.pipeline, uri) for s, uri in context.inputs.items()},
        summary=summary,
        defaults=DEFAULTS,
    )
    attempts.commit(attempt)
    return attempt


def _tell_late(pipeline: Pipeline, day: date) -> None:
    """Says that events of a day that is done have come since. What is wrong with a later day's logs
    does not matter.
    """
    try:
        late = unread(pipeline, day)
    except BadData as e:
        console.print(
            f"Whether events of {day} came late since cannot be told: {format_message(e)}",
            soft_wrap=True,
        )
        return
    if late:
        again = format_message(f"twinspire run PIPELINE --date {day} --force")
        text = (
            f"{late:,} events of {day} came late, others than it was run with; it stays as it is."
            " To run it anew:"
        )
        console.print(f"{text} {again}", soft_wrap=True)


def _gaps(pipeline: Pipeline, day: date, parent: Parent | None, mode: Mode) -> tuple[Gap, ...]:
    if parent is None or mode == "full":
        return ()
    found = missing(pipeline, parent.day, day)
    for gap in found:
        told = gap.told("PIPELINE")
        text = (
            f"{day} goes on from {parent.day}: {told['from']} to {told['to']} have logs and no"
            " accepted version."
        )
        console.print(
            format_message(f"{text} To fill the gap first: {told['command']}"), soft_wrap=True
        )
    return tuple(found)


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
        raise UsageError(
            "A version is published beside the parent that it was trained and measured against;"
            f" {day} was trained when that was {trained.parent}, and now it is {version}: a day was"
            f" filled in or rolled back since. Run `twinspire train PIPELINE --date {day}` again."
        )


def raise_if_refused(attempt: Attempt) -> None:
    """Tells the gate's reasons, also when the stage was already done.

    Raises:
      GateRefused: the version was stored, and is not live.
    """
    if reasons := attempt.summary.get("refused"):
        version = attempt.summary.get("version")
        raise GateRefused(
            f"The gate refused {version}; the live version stays.\n"
            + "\n".join(f"  - {reason}" for reason in reasons)
            + f'\nTo overrule it: twinspire promote PIPELINE {version} --despite-gate "REASON"'
        )


def _source_digest(pipeline: Pipeline, day: date, mode: Mode) -> str:
    from beam_jobs.ingest import day_files

    return digest(day_files.fingerprint(pipeline, day, mode))
