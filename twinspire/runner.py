"""Runs a stage of a day: finds its inputs, skips what is done, commits what it made.

A stage's key is the digest of all that its output is a function of. If the newest committed attempt has that key, the
stage is done.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import import_module
from typing import Any

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
      derived: paths whose content follows from its other files, or is for people; their bytes may differ between two
        runs of the same inputs, so no key depends on them.
    """

    name: str
    module: str
    after: str | None
    config: tuple[str, ...]
    inherits: bool = False
    derived: tuple[str, ...] = ()


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
            derived=("transform/", "statistics/", "report.json"),
        ),
        Stage(
            name="train",
            module="model.train",
            after="features",
            config=("features", "train", "evaluation", "vocabulary.oov_buckets", "gate.min_users"),
            inherits=True,
            derived=("query_tower/", "item_tower/"),
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
    manifest = _registry(pipeline).accepted_before(day)
    if manifest is None:
        return None
    return Parent(
        day=manifest.date,
        version=manifest.version,
        home=storage.join(pipeline.registry.root, pipeline.name, "versions", manifest.version),
        train=workdir.place(pipeline, manifest.sources["train"]),
    )


def _registry(pipeline: Pipeline) -> Any:
    return import_module("index_builder.registry").Registry(pipeline.registry.root, pipeline.name)


def _is_live(pipeline: Pipeline, version: str) -> bool:
    """Whether it is live now: a stage that is already done may tell of what was live when it ran."""
    return _registry(pipeline).live() == version


def run_stage(
    pipeline: Pipeline,
    day: date,
    name: str,
    *,
    mode: Mode = "incremental",
    force: bool = False,
    promote: Promote = "auto",
    run: str | None = None,
) -> dict:
    """Runs one stage of one day, or finds it done.

    With `run`, the name of a run of the day that later days wait for, it is recorded that this run is under way, and
    how it ended.

    Returns:
      The stage's summary with `stage`, `day`, `status` (`done` or `already done`), `attempt` and `seconds`.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: an earlier day is unfinished, or the day's input
      is not there yet. NothingToDo: the day is empty. BadData, UsageError: as they say.
    """
    if run:
        workdir.open_day(pipeline, day, run)
    try:
        told = _run_stage(pipeline, day, name, mode=mode, force=force, promote=promote)
    except BaseException as e:
        if run and (outcome := _outcome(name, e)):
            workdir.close_day(pipeline, day, run, outcome)
        raise
    if run and name == "publish":
        workdir.close_day(pipeline, day, run, "published")
    return told


def check_source(pipeline: Pipeline, day: date, run: str | None) -> dict:
    """Looks whether the day's logs are there and plausible. The run counts as under way from before it looks.

    Raises:
      TryAgain, NothingToDo, BadData: the day is late, empty or suspicious.
    """
    if run:
        workdir.open_day(pipeline, day, run)
    try:
        return import_module("beam_jobs.source").check(pipeline, day)
    except BaseException as e:
        if run:
            workdir.close_day(pipeline, day, run, _outcome("features", e) or "failed")
        raise


def _outcome(stage: str, error: BaseException) -> str | None:
    """How a run of the day ended by an error; None if it goes on when the stage is tried again."""
    if isinstance(error, TryAgain):
        return "late" if stage == "features" else None
    known = {GateRefused: "refused", NothingToDo: "skipped"}
    return next((outcome for kind, outcome in known.items() if isinstance(error, kind)), "failed")


def _run_stage(pipeline: Pipeline, day: date, name: str, *, mode: Mode, force: bool, promote: Promote) -> dict:
    stage, started = STAGES[name], time.monotonic()
    if name == "features":
        import_module("beam_jobs.source").check(pipeline, day)
    if name == "train":
        await_turn(pipeline, day, pipeline.train.wait)
    parent = find_parent(pipeline, day)
    mode = mode if parent else "full"
    before = _inputs(pipeline, day, stage)
    if trained := before.get("train"):
        mode = trained.mode
        if name == "publish":
            _check_parent(day, trained, parent)
    elif name == "train":
        _check_mode(day, mode, before["features"])
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
        _raise_if_refused(done)
    told = {**done.summary, "live": _is_live(pipeline, done.summary["version"])} if name == "publish" else done.summary
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


def await_turn(pipeline: Pipeline, day: date, patience: timedelta, *, only_if_next: bool = False) -> None:
    """Waits until no earlier day is under way, so that days are trained in order.

    Args:
      pipeline: whose days.
      day: the one that waits.
      patience: how long it waits.
      only_if_next: it gives up at once while more than one earlier day is unfinished.

    Raises:
      TryAgain: an earlier day is still unfinished.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while unfinished := workdir.unfinished_before(pipeline, day):
        if time.monotonic() >= deadline or (only_if_next and len(unfinished) > 1):
            raise TryAgain(
                f"Days are trained in order, and {', '.join(map(str, unfinished))} began and has not ended. "
                f"Run {day} again when it has. If its run is dead, run it again, or end it with "
                f"`twinspire day PIPELINE --date {unfinished[0]} --close`."
            )
        time.sleep(min(2.0, max(0.1, deadline - time.monotonic())))


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
    chain = {before.name: nearest} | {
        name: workdir.read(workdir.place(pipeline, attempt)) for name, attempt in nearest.inputs.items()
    }
    for name, attempt in chain.items():
        if attempt.config != config_digest(pipeline, STAGES[name]):
            raise UsageError(
                f"{stage.name} of {day} needs an output of {name} made from this pipeline file; {attempt.uri} was "
                f"made before the file changed. Run `twinspire {name} PIPELINE --date {day}` and what follows it again."
            )
    return chain


def _make(stage: Stage, context: StageContext, *, key: str, config: str) -> Attempt:
    with unheard():  # TensorFlow greets at length
        module = import_module(stage.module)
    summary = module.run(context)
    attempt = Attempt(
        uri=context.out,
        key=key,
        config=config,
        output=_output_digest(context.out, (workdir.TIMINGS, *stage.derived)),
        mode=context.mode,
        parent=context.parent.version if context.parent else None,
        inputs={s: workdir.name(context.pipeline, uri) for s, uri in context.inputs.items()},
        summary=summary,
    )
    workdir.commit(attempt)
    return attempt


def _check_mode(day: date, mode: Mode, features: Attempt) -> None:
    if mode == "full" and features.mode != "full":
        raise UsageError(
            f"Training from scratch needs the examples of the whole training window; those of {day} were made in mode "
            f"incremental, for the day alone. Run `twinspire features PIPELINE --date {day} --mode full` first."
        )


def _check_parent(day: date, trained: Attempt, parent: Parent | None) -> None:
    version = parent.version if parent else None
    if trained.parent != version:
        raise UsageError(
            f"A version is published beside the parent that it was trained and measured against; {day} was trained "
            f"when that was {trained.parent}, and now it is {version}: a day was filled in or rolled back since. "
            f"Run `twinspire train PIPELINE --date {day}` again."
        )


def _output_digest(place: str, left_out: tuple[str, ...]) -> str:
    files = (file for file in storage.list_files(place) if not file.path.startswith(left_out))
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
