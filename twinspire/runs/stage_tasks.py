"""What a stage of a day is to be run with: the attempts that it reads, its mode, its parent, and
all that its key is made of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from twinspire.runs.cache_keys import config_digest, digest
from twinspire.runs.day_run import DayRun
from twinspire.runs.index_start import find_start
from twinspire.runs.stages import STAGES, Stage, StageFunction
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, partials
from twinspire_core.contracts.attempts import (
    NO_START,
    Attempt,
    Mode,
    Parent,
    Promote,
    Reuse,
    StageContext,
)
from twinspire_core.errors import BadData, ParentChanged, TwinspireError, UsageError


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
    # A fact of the key, too: from other settings comes another index.
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
    """What one of a day's stages is a function of, besides the pipeline file."""
    facts: dict[str, Any] = {
        "day": str(context.day),
        "inputs": {name: attempt.output for name, attempt in earlier.items()},
        # None where the stage does not depend on it
        "mode": context.mode if stage.takes_mode else None,
        "parent": context.parent.version if stage.inherits and context.parent else None,
        "promote": context.promote if stage.publishes else None,
        "source": digest(digests) if stage.reads_source else None,
    }
    # Left out where there is none, or where the best is the parent
    later = {
        "best": context.besides.version if context.besides else None,
        "settings": context.start.version,
        "replays": context.replays,
    }
    return facts | {name: found for name, found in later.items() if found}


def _replays(run: DayRun, stage: Stage, parent: Parent | None) -> bool:
    """Whether the stage replays days before the day. What was done with a replay stays done when a parent
    has come since: days that run at the same time have none at first.
    """
    from twinspire_core.contracts.ranker_files import needs_replay

    if not run.pipeline.sources.several:
        return False
    done = attempts.latest(run.pipeline, run.day, stage.name)
    return bool(done and done.summary.get("replayed")) or needs_replay(run.day, parent)


def unread_events(pipeline: Pipeline, day: date) -> int:
    """A day's late events (`source.late_days`), if they are others than those that its features
    were made with.

    Raises:
      BadData: the folder of a later day cannot be read.
    """
    from beam_jobs.ingest import later_folders

    if not pipeline.source.late_days:
        return 0
    done = attempts.latest(pipeline, day, "features")
    if done is None:
        return 0
    late = later_folders.look(pipeline, day)
    if late.unreadable:
        raise BadData("\n".join(late.unreadable.values()))
    # By digest: the same events may lie in other files by now.
    learned = done.summary.get("late", {}).get("digest", "")
    return late.events if late.digest != learned else 0


def late_events(run: DayRun) -> int:
    """The same; 0 where nobody can tell."""
    try:
        return unread_events(run.pipeline, run.day)
    except TwinspireError:
        return 0


def _earlier_attempts(run: DayRun, stage: Stage) -> dict[str, Attempt]:
    """Attempts of the earlier stages, nearest first: the last one's, and those that it was itself
    made from.
    """
    if stage.after is None:
        return {}
    day = run.day
    nearest = attempts.latest(run.pipeline, day, stage.after)
    if nearest is None:
        raise _missing(run, stage, stage.after)
    # Not the newest attempt of each: the ones that the nearest was made from.
    earlier = {stage.after: nearest}
    for name, attempt_name in nearest.inputs.items():
        try:
            made_from = attempts.read(attempts.place(run.pipeline, attempt_name))
        except FileNotFoundError as error:  # pruned, or deleted to forget a user
            raise _missing(run, stage, name) from error
        newest = attempts.latest(run.pipeline, day, name)
        # It may have been made again since, for other keys of the file, to the same bytes.
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
            "A version is published beside the parent that it was trained and measured against;"
            f" {day} was trained when that was {trained.parent}, and now it is {version}: a day was"
            f" filled in or rolled back since. Run the day again: `twinspire run PIPELINE --date {day}`."
        )


def source_digests(
    run: DayRun, scope: Mode | Literal["served"], *, replays: bool = False
) -> dict[str, str]:
    """Digests of all files that a run of the day reads."""
    from beam_jobs.ingest import day_files

    return day_files.fingerprint(run.pipeline, run.day, scope, run.log_digests, replays=replays)
