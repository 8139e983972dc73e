"""Runs a stage of a day: finds its inputs, skips what is done, commits what it made.

A stage's key is the digest of all that its output is a function of. The newest committed attempt with the same key
is the result; nothing is made twice.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import import_module

from twinspire import __version__, storage, workdir
from twinspire.errors import GateRefused, NothingToDo, TryAgain, UsageError
from twinspire.pipeline import Pipeline
from twinspire.quiet import unheard
from twinspire.stages import Mode, Parent, Promote, StageContext
from twinspire.workdir import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as the runner sees it.

    Attributes:
      module: holds `run(ctx) -> summary`; imported only when the stage runs.
      after: the stage whose output it reads; that stage's own inputs are handed on.
      config: the keys of the pipeline file that its output depends on, as `table` or `table.key`.
      inherits: whether its output depends on the parent version.
    """

    name: str
    module: str
    after: str | None
    config: tuple[str, ...]
    inherits: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="features",
            module="beam_jobs.features",
            after=None,
            config=(
                *("pipeline.time_zone", "source", "columns", "features", "window", "vocabulary", "corpus"),
                *("evaluation.holdout", "evaluation.max_users", "evaluation.lately_days", "statistics", "beam.shards"),
            ),
        ),
        Stage(
            name="train",
            module="model.train",
            after="features",
            config=("features", "train", "evaluation", "vocabulary.oov_buckets", "gate.min_users"),
            inherits=True,
        ),
        Stage(name="embed", module="beam_jobs.embed", after="train", config=()),
        Stage(name="index", module="index_builder.build", after="embed", config=("index",)),
        Stage(
            name="publish",
            module="index_builder.publish",
            after="index",
            config=("gate", "serving", "corpus", "index.recall_target", "registry.root"),
            inherits=True,
        ),
    )
}
# When or where the logs are found does not change a result: their digests stand in the key. An embedding's width is the
# model's affair alone.
_WITHOUT_EFFECT = {"source": {"wait", "done_marker", "events", "items", "users"}, "train": {"wait"}}


def find_parent(pipeline: Pipeline, day: date) -> Parent | None:
    """The newest version before `day` that the gate accepted and that was not rolled back."""
    registry = import_module("index_builder.registry").Registry(pipeline.registry.root, pipeline.name)
    manifest = registry.accepted_before(day)
    if manifest is None:
        return None
    return Parent(day=manifest.date, version=manifest.version, train=workdir.place(pipeline, manifest.sources["train"]))


def run_stage(
    pipeline: Pipeline,
    day: date,
    name: str,
    *,
    mode: Mode = "incremental",
    force: bool = False,
    promote: Promote = "auto",
) -> dict:
    """Runs one stage of one day, or finds it done.

    Returns:
      The stage's summary with `stage`, `day`, `status` (`done` or `already done`), `attempt` and `seconds`.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: an earlier day is unfinished, or the day's input
      is not there yet. NothingToDo: the day is empty. BadData, UsageError: as they say.
    """
    try:
        return _run_stage(pipeline, day, name, mode=mode, force=force, promote=promote)
    except (TryAgain, GateRefused):
        raise
    except NothingToDo:
        workdir.close_day(pipeline, day, "skipped")
        raise
    except BaseException:
        workdir.close_day(pipeline, day, "failed")
        raise


def _run_stage(pipeline: Pipeline, day: date, name: str, *, mode: Mode, force: bool, promote: Promote) -> dict:
    stage, started = STAGES[name], time.monotonic()
    if name == "features":
        import_module("beam_jobs.source").check(pipeline, day)
    if name == "train":
        await_turn(pipeline, day, pipeline.train.wait)
    parent = find_parent(pipeline, day)
    mode = mode if parent else "full"
    before = _inputs(pipeline, day, stage)
    _check_mode(day, name, mode, before)
    config = config_digest(pipeline, stage)
    key = _digest(
        {
            "stage": name,
            "software": __version__,
            "day": str(day),
            "config": config,
            "inputs": {stage: attempt.output for stage, attempt in before.items()},
            "mode": mode if name in ("features", "train") else None,
            "parent": parent.version if parent and stage.inherits else None,
            "promote": promote if name == "publish" else None,
            "source": _source_digest(pipeline, day, mode) if name == "features" else None,
        }
    )
    done = workdir.latest(pipeline, day, name)
    fresh = force or done is None or done.key != key
    if fresh or done is None:  # the second for the type checker
        context = StageContext(
            pipeline=pipeline,
            day=day,
            mode=mode,
            parent=parent,
            inputs={stage: attempt.uri for stage, attempt in before.items()},
            out=workdir.begin(pipeline, day, name),
            promote=promote,
        )
        done = _make(stage, context, key=key, config=config)
    if name == "publish":
        workdir.close_day(pipeline, day, "refused" if done.summary.get("refused") else "published")
        _raise_if_refused(done)
    return {
        "stage": name,
        "day": str(day),
        "status": "done" if fresh else "already done",
        "attempt": done.uri,
        "seconds": round(time.monotonic() - started, 1),
        "mode": mode,
        "parent": parent.version if parent else None,
        **done.summary,
    }


def await_turn(pipeline: Pipeline, day: date, patience: timedelta) -> None:
    """Waits until no earlier day is under way, so that days are trained in order.

    Raises:
      TryAgain: an earlier day is still unfinished after `patience`.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while unfinished := workdir.unfinished_before(pipeline, day):
        if time.monotonic() >= deadline:
            raise TryAgain(
                f"Days are trained in order, and {', '.join(map(str, unfinished))} began and has not ended. "
                f"Run {day} again when it has. If its run is dead, run it again, or end it with "
                f"`twinspire day PIPELINE --date {unfinished[0]} --close`."
            )
        time.sleep(min(5.0, max(0.1, deadline - time.monotonic())))


def config_digest(pipeline: Pipeline, stage: Stage) -> str:
    """Digest of the keys of the pipeline file that the stage uses."""
    tables = pipeline.model_dump(mode="json", by_alias=True)
    used: dict[str, object] = {}
    for path in stage.config:
        table, _, key = path.partition(".")
        value = tables[table][key] if key else tables[table]
        if table in _WITHOUT_EFFECT and not key:
            value = {k: v for k, v in value.items() if k not in _WITHOUT_EFFECT[table]}
        if table == "features" and stage.name == "features":
            value = {name: {k: v for k, v in f.items() if k != "dimension"} for name, f in value.items()}
        used[path] = value
    return _digest(used)


def _inputs(pipeline: Pipeline, day: date, stage: Stage) -> dict[str, Attempt]:
    """Attempts of the earlier stages, nearest first: the last one's, and those that it was itself made from."""
    if stage.after is None:
        return {}
    nearest = workdir.latest(pipeline, day, stage.after)
    before = STAGES[stage.after]
    if nearest is None:
        raise UsageError(
            f"{stage.name} of {day} needs the output of {stage.after}, and there is none under "
            f"{workdir.day_uri(pipeline, day)}. Run `twinspire {stage.after} PIPELINE --date {day}` first, "
            f"or `twinspire run PIPELINE --date {day}` for all stages."
        )
    if nearest.config != config_digest(pipeline, before):
        raise UsageError(
            f"{stage.name} of {day} needs an output of {stage.after} made from this pipeline file; {nearest.uri} was "
            f"made before the file changed. Run `twinspire {stage.after} PIPELINE --date {day}` again."
        )
    return {
        before.name: nearest,
        **{s: workdir.read(workdir.place(pipeline, name)) for s, name in nearest.inputs.items()},
    }


def _make(stage: Stage, context: StageContext, *, key: str, config: str) -> Attempt:
    with unheard():  # TensorFlow greets at length
        module = import_module(stage.module)
    summary = module.run(context)
    attempt = Attempt(
        uri=context.out,
        key=key,
        config=config,
        output=_output_digest(context.out),
        mode=context.mode,
        inputs={s: workdir.name(context.pipeline, uri) for s, uri in context.inputs.items()},
        summary=summary,
    )
    workdir.commit(attempt)
    return attempt


def _check_mode(day: date, stage: str, mode: Mode, before: Mapping[str, Attempt]) -> None:
    if stage == "train" and mode == "full" and before["features"].mode != "full":
        raise UsageError(
            f"Training from scratch needs the examples of the whole training window; those of {day} were made in mode "
            f"incremental, for the day alone. Run `twinspire features PIPELINE --date {day} --mode full` first."
        )


def _output_digest(place: str) -> str:
    files = (file for file in storage.list_files(place) if file.path != workdir.TIMINGS)
    return _digest({file.path: file.digest or storage.file_digest(file.uri) for file in files})


def _raise_if_refused(attempt: Attempt) -> None:
    if reasons := attempt.summary.get("refused"):
        version = attempt.summary.get("version")
        raise GateRefused(
            f"The gate refused {version}; the live version stays.\n"
            + "\n".join(f"  - {reason}" for reason in reasons)
            + f'\nTo overrule it: twinspire promote PIPELINE {version} --despite-gate "REASON"'
        )


def _source_digest(pipeline: Pipeline, day: date, mode: Mode) -> str:
    return _digest(import_module("beam_jobs.source").fingerprint(pipeline, day, mode))


def _digest(value: Mapping) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
