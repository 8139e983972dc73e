"""The stages of a day: what each reads, what its output depends on, and what runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinspire_core.contracts.stage_context import StageContext

StageFunction = Callable[[StageContext], dict[str, Any]]
"""Writes under `ctx.out`, and returns the stage's summary."""


# Stages are imported when they run: each alone loads TensorFlow, Beam or ScaNN.
def _features() -> StageFunction:
    from beam_jobs import features_stage

    return features_stage.run


def _train() -> StageFunction:
    from model import train_stage

    return train_stage.run


def _embed() -> StageFunction:
    from beam_jobs import embed_stage

    return embed_stage.run


def _index() -> StageFunction:
    from index_builder import index_stage

    return index_stage.run


def _publish() -> StageFunction:
    from index_builder import publish_stage

    return publish_stage.run


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as the runner sees it.

    Attributes:
      after: the stage whose output it reads; that stage's own inputs are handed on.
      config: the keys of the pipeline file that its output depends on, as `table` or `table.key`.
      load: imports what runs the stage, and gives the function; None where several do.
      inherits: whether its output depends on the parent version.
      format: of what it writes; raised when that comes to mean something else, and past days are to
        be made again.
      derived: paths whose content follows from its other files, or is for people; their bytes may
        differ between two runs of the same inputs, so no key depends on them.
    """

    name: str
    after: str | None
    config: tuple[str, ...]
    load: Callable[[], StageFunction] | None = None
    inherits: bool = False
    format: int = 1
    derived: tuple[str, ...] = ()


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="features",
            load=_features,
            after=None,
            config=(
                *(
                    "pipeline.time_zone",
                    "source",
                    "columns",
                    "features",
                    "window",
                    "vocabulary",
                    "corpus",
                ),
                *("evaluation.holdout", "evaluation.lately_days", "evaluation.als", "mix"),
                *("statistics", "beam.shards"),
            ),
            derived=("transform/", "statistics/", "report.json"),
        ),
        Stage(
            name="train",
            load=_train,
            after="features",
            config=(
                "features",
                "train",
                "evaluation",
                "mix",
                "vocabulary.oov_buckets",
                "gate.min_users",
            ),
            inherits=True,
            derived=("query_tower/", "item_tower/", "tensorboard/"),
        ),
        Stage(
            name="embed",
            load=_embed,
            after="train",
            config=(),
            derived=("tensorflow_serving/",),
        ),
        Stage(name="index", load=_index, after="embed", config=("index",)),
        Stage(
            name="publish",
            load=_publish,
            after="index",
            config=("gate", "serving", "corpus", "index.recall_target", "registry.root"),
            inherits=True,
        ),
    )
}
REFRESH = Stage(
    name="refresh",
    after=None,
    config=(
        *(
            "pipeline.time_zone",
            "source",
            "columns",
            "features",
            "window",
            "corpus",
            "evaluation.lately_days",
            "mix",
        ),
        *("beam.shards", "index", "gate", "serving", "registry.root"),
    ),
)
"""Not one of a day's stages: it takes the towers of a version, and makes all else anew as of some
later day.
"""
