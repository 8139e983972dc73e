"""The stages of a day: what each needs and reads, what its output depends on, and what runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from twinspire_core.contracts.attempts import StageContext

StageFunction = Callable[[StageContext], dict[str, Any]]
"""Writes under `ctx.out`, and returns the stage's summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as the runner sees it. All that the runner does for some stages only is said here.

    Attributes:
      name: of its command and of its folder among the working files.
      after: the stage whose output it reads; that stage's own inputs are handed on.
      config: the keys of the pipeline file that its output depends on, as `table` or `table.key`.
      module: what runs the stage, by its function `run`; empty where a plan brings its own.
      format: of what it writes; raised when that comes to mean something else, and past days are to
        be made again.
      derived: paths whose content follows from its other files, or is for people; their bytes may
        differ between two runs of the same inputs, so no key depends on them.
      inherits: whether its output depends on the parent version.
      reads_source: whether it reads the day's logs: they have to be there and plausible, and a run
        that comes before them is late.
      replays: whether it makes days before the day once more, where no parent has rows for a ranker.
      takes_mode: whether its output depends on the mode that is asked for. Other stages have the
        mode of the stage before them.
      waits_for_turn: whether it goes on from the version of an earlier day. Then earlier days that
        are under way go first, and days that were left out are told.
      measures_best: whether it measures the best accepted version before the day besides the parent.
      starts_from_settings: whether it starts from the index settings of an earlier version.
      publishes: whether it publishes a version: the gate may refuse that, `--promote` counts, and
        the run of the day has then ended.
      output_is_version: whether the version is its whole output, for which its files are only steps
        on the way.
      same_parent_as: an earlier stage whose parent must still be the day's parent.
      needs_pandas: whether a library that it uses needs pandas, which others would load in vain.
    """

    name: str
    after: str | None
    config: tuple[str, ...]
    module: str = ""
    format: int = 1
    derived: tuple[str, ...] = ()
    inherits: bool = False
    reads_source: bool = False
    replays: bool = False
    takes_mode: bool = False
    waits_for_turn: bool = False
    measures_best: bool = False
    starts_from_settings: bool = False
    publishes: bool = False
    output_is_version: bool = False
    same_parent_as: str | None = None
    needs_pandas: bool = False

    def load(self) -> StageFunction:
        """Imports what runs the stage; each alone loads TensorFlow, Beam or ScaNN."""
        function: StageFunction = import_module(self.module).run
        return function


FEATURES = Stage(
    name="features",
    module="beam_jobs.features_stage",
    after=None,
    format=2,  # statistics are one JSON file
    config=(
        "pipeline.time_zone",
        "source",
        "columns",
        "features",
        "window",
        "vocabulary",
        "corpus",
        "evaluation.holdout",
        "sources",
        "statistics",
    ),
    # Names in the transform's graph differ between any two runs; the rows that it made do not.
    derived=("transform/", "statistics.json", "report.json"),
    reads_source=True,
    replays=True,
    takes_mode=True,
    needs_pandas=True,  # TensorFlow Transform does
)
TRAIN = Stage(
    name="train",
    module="model.train_stage",
    after="features",
    format=2,  # lists are measured by the next stage
    config=(
        "features",
        "train",
        "evaluation.holdout",
        "sources",
        "gate.min_users",  # for so many it adds the held-out users of days before
    ),
    # Saved graphs differ too. The weights in them are in the training state, which is compared;
    # vectors follow from it.
    derived=("query_tower/", "item_tower/", "vectors/"),
    inherits=True,
    takes_mode=True,
    waits_for_turn=True,
    measures_best=True,
)
MEASURE = Stage(
    name="measure",
    module="model.measure_stage",
    after="train",
    config=(
        "features",
        "train",
        "evaluation",
        "sources",
        "gate.min_users",
        "serving.exclude_seen",  # which lists weights are fitted on, and versions compared by
        "serving.user_store",  # whether rows are made of users who are known
    ),
    inherits=True,
    same_parent_as="train",
)
EMBED = Stage(
    name="embed",
    module="beam_jobs.embed_stage",
    after="measure",
    config=(),  # the digests of its inputs say all
    derived=("tensorflow_serving/",),
)
INDEX = Stage(
    name="index",
    module="index_builder.index_stage",
    after="embed",
    config=("index",),
    starts_from_settings=True,
)
PUBLISH = Stage(
    name="publish",
    module="index_builder.publish_stage",
    after="index",
    config=("gate", "serving", "corpus", "index.recall_target"),
    inherits=True,
    publishes=True,
    same_parent_as="train",
)
STAGES = {stage.name: stage for stage in (FEATURES, TRAIN, MEASURE, EMBED, INDEX, PUBLISH)}
"""A day's stages by their names, in order."""

REFRESH = Stage(
    name="refresh",
    after=None,
    config=(
        "pipeline.time_zone",
        "source",
        "columns",
        "features",
        "window",
        "corpus",
        "sources",
        "index",
        "gate",
        "serving",
    ),
    publishes=True,
    output_is_version=True,
)
"""Not one of a day's stages: it takes the towers of a version, and makes all else again as of some
later day.
"""
