"""What a stage's result depends on, as digests: its key, its part of the pipeline file, and the
files that it wrote.

A release, or a move of files, makes no past day stale: a key carries the stage's `format`, which is
raised when what the stage writes comes to mean something else, and only then. Three things keep
what was committed done:
  1. Format 1 is spelled as release 0.1.0 spelled it, which put its own version in that place.
  2. A key of the pipeline file that came later is marked `ADDED`
     (twinspire_core/config/feature_kinds.py), and is left out of digests while it holds its
     default. With another value it counts as any other key. Whoever changes such a default changes
     what past days mean without a trace in their keys: then the stage's format is raised too.
  3. A default that has changed is marked `was`. Where the file leaves the key out, an attempt that
     was made with the defaults of then is compared with a key that has them.
docs/decisions/0034-keys-with-formats.md
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twinspire_core import storage
from twinspire_core.config.feature_kinds import ADDED, WAS
from twinspire_core.config.pipeline import Pipeline

DEFAULTS = 1
"""Which defaults of the pipeline file stages are made with now. Attempts say so, but for those of
release 0.1.0: 0.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as the runner sees it.

    Attributes:
      module: holds `run(ctx) -> summary`; imported only when the stage runs.
      after: the stage whose output it reads; that stage's own inputs are handed on.
      config: the keys of the pipeline file that its output depends on, as `table` or `table.key`.
      inherits: whether its output depends on the parent version.
      format: of what it writes; raised when that comes to mean something else, and past days are to
        be made again.
      derived: paths whose content follows from its other files, or is for people; their bytes may
        differ between two runs of the same inputs, so no key depends on them.
    """

    name: str
    module: str
    after: str | None
    config: tuple[str, ...]
    inherits: bool = False
    format: int = 1
    derived: tuple[str, ...] = ()


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="features",
            module="beam_jobs.features_stage",
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
            module="model.train_stage",
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
            module="beam_jobs.embed_stage",
            after="train",
            config=(),
            derived=("tensorflow_serving/",),
        ),
        Stage(name="index", module="index_builder.index_stage", after="embed", config=("index",)),
        Stage(
            name="publish",
            module="index_builder.publish_stage",
            after="index",
            config=("gate", "serving", "corpus", "index.recall_target", "registry.root"),
            inherits=True,
        ),
    )
}
REFRESH = Stage(
    name="refresh",
    module="index_builder.refresh_stage",
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
# When or where the logs are found does not change a result: their digests stand in the key. An
# embedding's width is the model's affair alone.
_WITHOUT_EFFECT = {"source": {"wait", "done_marker", "events", "items", "users"}, "train": {"wait"}}


def stage_key(stage: Stage, **facts: Any) -> str:
    """Digest of all that a stage's output is a function of: its format, and what the caller knows
    of its inputs.
    """
    made_by = {"software": "0.1.0"} if stage.format == 1 else {"format": stage.format}
    return digest({"stage": stage.name, **made_by, **facts})


def config_digest(pipeline: Pipeline, stage: Stage, defaults: int = DEFAULTS) -> str:
    """Digest of the keys of the pipeline file that the stage uses.

    Args:
      pipeline: the file.
      stage: the stage.
      defaults: what stands for the keys that the file leaves out: 0 for the defaults of release
        0.1.0.
    """
    tables = _without_added(pipeline, pipeline.model_dump(mode="json", by_alias=True), defaults)
    used: dict[str, object] = {}
    for path in stage.config:
        table, _, key = path.partition(".")
        if table not in tables or (key and key not in tables[table]):
            continue  # added since, and at its default
        value = tables[table][key] if key else tables[table]
        if table in _WITHOUT_EFFECT and not key:
            value = {k: v for k, v in value.items() if k not in _WITHOUT_EFFECT[table]}
        if table == "features" and stage.after is None:
            value = {
                name: {k: v for k, v in f.items() if k != "dimension"} for name, f in value.items()
            }
        # Which looks at pairs of items, and at nothing else of it
        if table == "mix" and stage.after is None:
            value = value["neighbours"] if pipeline.mix.pairs else 0
        used[path] = value
    return digest(used)


def _without_added(value: object, dumped: Any, defaults: int) -> Any:
    """A part of the pipeline file as it was dumped, but for keys that came later and hold their
    default.
    """
    if isinstance(value, dict):
        return {key: _without_added(value[key], part, defaults) for key, part in dumped.items()}
    if not isinstance(value, BaseModel):
        return dumped
    fields = type(value).model_fields.items()
    kept = {field.alias or name: name for name, field in fields if not _is_new(value, name, field)}
    parts = {
        key: _without_added(getattr(value, name), dumped[key], defaults)
        for key, name in kept.items()
    }
    if defaults:
        return parts
    return parts | {
        name: was for name, field in fields if (was := _old_default(value, name, field)) is not None
    }


def _is_new(table: BaseModel, name: str, field: FieldInfo) -> bool:
    default = field.get_default(call_default_factory=True)
    return field.json_schema_extra == ADDED and getattr(table, name) == default


def _old_default(table: BaseModel, name: str, field: FieldInfo) -> object:
    """What a key that the file leaves out was by default at release 0.1.0, if that has changed."""
    extra = field.json_schema_extra
    return (
        extra.get(WAS) if isinstance(extra, dict) and name not in table.model_fields_set else None
    )


def output_digest(place: str, left_out: tuple[str, ...]) -> str:
    """Digest of the files of an attempt, but for those whose path starts with one of `left_out`."""
    files = [file for file in storage.list_files(place) if not file.path.startswith(left_out)]
    kept = {file.path: file.digest for file in files if file.digest}
    return digest(kept | storage.file_digests([file for file in files if not file.digest]))


def digest(value: Mapping) -> str:
    """Digest of JSON-able values, whatever their order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
