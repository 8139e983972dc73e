"""The stages of a day: what each reads, what its output depends on, and what runs it.

A stage's key is the digest of everything that its output depends on. It has the stage's `format`, not
its code, so that neither a move of files nor a release makes earlier days stale. A raised format, or a
new key of the pipeline file that the stage uses, makes the days of that stage stale once.
docs/decisions/0003-attempts-and-keys.md
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_registry import own_digests
from twinspire_core.contracts.attempts import StageContext

StageFunction = Callable[[StageContext], dict[str, Any]]
"""Writes under `ctx.out`, and returns the stage's summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The description of a stage for the runner, with a field for each thing that it does only for
    some stages.

    Attributes:
      name: the name of its command, and of its folder among the working files.
      after: the stage whose output it reads; that stage's own inputs are passed on.
      config: the keys of the pipeline file that its output depends on, as `table` or `table.key`.
      module: its function `run` runs the stage; empty if the plan brings a function.
      format: number of the format that it writes. Raising it makes earlier days stale.
      derived: paths whose content follows from its other files, or is for people; their bytes may
        differ between two runs of the same inputs, so no key depends on them.
      inherits: whether its output depends on the parent version.
      reads_source: whether it reads the day's logs. They have to be there and plausible; a run that
        starts before them is late. If no parent has rows for a ranker, it makes earlier days again.
      takes_mode: whether its output depends on the mode that is asked for. Other stages have the
        mode of the stage before them.
      waits_for_turn: whether it goes on from the version of an earlier day. Then it waits for earlier
        days that are under way, and reports days that were left out. It also measures
        the best accepted version before the day.
      starts_from_settings: whether it starts from the index settings of an earlier version.
      publishes: whether it publishes a version: the gate may refuse that, `--promote` counts, and
        the run of the day has then ended.
      output_is_version: whether its whole output is the version, and its files are only steps to it.
      same_parent_as: an earlier stage whose parent must still be the day's parent.
    """

    name: str
    after: str | None
    config: tuple[str, ...]
    module: str = ""
    format: int = 1
    derived: tuple[str, ...] = ()
    inherits: bool = False
    reads_source: bool = False
    takes_mode: bool = False
    waits_for_turn: bool = False
    starts_from_settings: bool = False
    publishes: bool = False
    output_is_version: bool = False
    same_parent_as: str | None = None

    def load(self) -> StageFunction:
        """Imports the function that runs the stage."""
        # Only here, because each of these modules loads TensorFlow, Beam or ScaNN
        return import_module(self.module).run


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
    # Names in the transform's graph differ between two runs, but the rows that it made do not
    derived=("transform/", "statistics.json", "report.json"),
    reads_source=True,
    takes_mode=True,
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
        "gate.min_users",  # it adds held-out users of earlier days up to this number
    ),
    # Saved graphs differ between two runs, too. Their weights are in the training state, which is compared
    derived=("query_tower/", "item_tower/", "vectors/"),
    inherits=True,
    takes_mode=True,
    waits_for_turn=True,
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
    config=(),  # its inputs depend on everything that it depends on
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
"""Not one of a day's stages. It takes the towers of a version, and makes everything else again as of a
later day.
"""


# When and where the logs are read changes no result, because their digests are in the key
_WITHOUT_EFFECT = {
    "source": {"wait", "done_marker", "events", "items", "users"},
    "train": {"wait"},
}


def stage_key(stage: Stage, **facts: Any) -> str:
    """Digest of all that a stage's output depends on: its format, and the facts about its inputs."""
    # A number per stage instead of a digest of the code, with which each edited comment would make all past
    # days stale
    return digest({"stage": stage.name, "format": stage.format, **facts})


def config_digest(pipeline: Pipeline, stage: Stage) -> str:
    """Digest of the keys of the pipeline file that the stage uses."""
    tables = pipeline.model_dump(mode="json", by_alias=True)
    used: dict[str, object] = {}
    for path in stage.config:
        table, _, key = path.partition(".")
        whole = tables[table]
        used[path] = whole[key] if key else _used_of_table(pipeline, stage, table, whole)
        if path == "serving.user_store":  # the number of stored users only changes the version
            used[path] = bool(whole[key])
    if "sources" in stage.config and (own := own_digests(pipeline.sources.use)):
        used["own sources"] = own
    return digest(used)


def _used_of_table(pipeline: Pipeline, stage: Stage, table: str, keys: dict[str, Any]) -> object:
    """The part of a table that a stage uses, if it uses most of it."""
    if table == "sources" and stage.after is None:
        # It fits the tables of some sources, and counts events if there are several sources
        return [*pipeline.sources.fitted, pipeline.sources.several]
    if table == "sources" and stage.name == "train":
        # It encodes more queries if there is a ranker
        return pipeline.sources.several
    without_effect = _WITHOUT_EFFECT.get(table, ())
    return {key: value for key, value in keys.items() if key not in without_effect}


def output_digest(folder: str, left_out: tuple[str, ...]) -> str:
    """Digest of the files of an attempt, without those whose path starts with one of `left_out`."""
    files = [file for file in storage.list_files(folder) if not file.path.startswith(left_out)]
    # An object store knows most digests. Only the other files are read
    digests = {file.path: file.digest for file in files if file.digest}
    return digest(digests | storage.file_digests([file for file in files if not file.digest]))


def digest(value: Mapping[str, Any]) -> str:
    """Digest of JSON-able values, whatever their order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
