"""What a stage's result depends on, as digests: its key, its part of the pipeline file, and the
files that it wrote.

A release, or a move of files, makes no past day stale: a key carries the stage's `format`, which is
raised when what the stage writes comes to mean something else, and only then. Three things keep
what was committed done:
  1. Format 1 is spelled as release 0.1.0 spelled it, which put its own version in that place.
  2. A key of the pipeline file that came later is marked `ADDED`
     (twinspire_core/config/tables/base.py), and is left out of digests while it holds its
     default. With another value it counts as any other key. Whoever changes such a default changes
     what past days mean without a trace in their keys: then the stage's format is raised too.
  3. A default that has changed is marked `was`. Where the file leaves the key out, an attempt that
     was made with the defaults of then is compared with a key that has them.
docs/decisions/0034-keys-with-formats.md
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twinspire.runs.stages import Stage
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.base import ADDED, WAS

DEFAULTS = 1
"""Which defaults of the pipeline file stages are made with now. Attempts say so, but for those of
release 0.1.0: 0.
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
            value = value["neighbours"] if pipeline.mix.uses_co_occurrence else 0
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


def digest(value: Mapping[str, Any]) -> str:
    """Digest of JSON-able values, whatever their order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
