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
  4. A key that came later, and whose default changes what is made, is marked `added`. An attempt
     that was made before is compared with a key that is without it, unless the file sets it to
     something else than what was done then.
  5. A key that a result no longer depends on (`Stage.config_before`) is in the digests of those
     attempts alone that were made while it did.
docs/decisions/0003-attempts-and-keys.md
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twinspire.runs.stages import Stage
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import COUNTED_FOR
from twinspire_core.config.tables.base import ADDED, BEFORE, SINCE, WAS

DEFAULTS = 4
"""Which defaults of the pipeline file stages are made with now: 1 in release 0.2.0, 2 since
`train.slot_decay`, 3 since `beam.shards` changes no result, 4 since a shop may be moved with its
registry (`registry.root`). Attempts say so, but for those of release 0.1.0: 0.
"""


# When or where the logs are found does not change a result: their digests stand in the key. Nor does
# what is done about a version once it was refused.
_WITHOUT_EFFECT = {
    "source": {"wait", "done_marker", "events", "items", "users"},
    "train": {"wait"},
    "gate": {"refresh_refused"},
}


def stage_key(stage: Stage, **facts: Any) -> str:
    """Digest of all that a stage's output is a function of: its format, and what the caller knows
    of its inputs.
    """
    made_by: dict[str, object] = {"format": stage.format}
    if stage.format == 1:
        made_by = {"software": "0.1.0"}
    return digest({"stage": stage.name, **made_by, **facts})


def config_digest(pipeline: Pipeline, stage: Stage, defaults: int = DEFAULTS) -> str:
    """Digest of the keys of the pipeline file that the stage uses.

    Args:
      pipeline: the file.
      stage: the stage.
      defaults: what stands for the keys that the file leaves out, as `DEFAULTS` numbers them: 0 for
        the defaults of release 0.1.0.
    """
    dumped = pipeline.model_dump(mode="json", by_alias=True)
    tables = _as_of_then(pipeline, dumped, defaults)
    used: dict[str, object] = {}
    before = [path for path, until in stage.config_before.items() if defaults < until]
    for path in (*stage.config, *before):
        table, _, key = path.partition(".")
        if table not in tables or (key and key not in tables[table]):
            continue  # added since, and at its default
        if key:
            used[path] = tables[table][key]
        else:
            used[path] = _used_of_table(pipeline, stage, table, tables[table])
    return digest(used)


def _used_of_table(pipeline: Pipeline, stage: Stage, table: str, keys: dict[str, Any]) -> object:
    """What a stage uses of a table of which it uses most."""
    reads_logs = stage.after is None
    if table == "mix" and reads_logs:
        # It counts how often items come together, where any source asks for that, and what other
        # sources ask for.
        neighbours = keys["neighbours"] if pipeline.mix.uses_co_occurrence else 0
        counted = [name for name in COUNTED_FOR if pipeline.mix.uses(name)]
        return [neighbours, *counted] if counted else neighbours
    if table == "ranking" and reads_logs:
        # It counts for a ranker, or it does not.
        return pipeline.ranking.enabled
    if table == "features" and reads_logs:
        # An embedding's width is the model's affair alone.
        return {name: _without(feature, {"dimension"}) for name, feature in keys.items()}
    return _without(keys, _WITHOUT_EFFECT.get(table, set()))


def _without(table: dict[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in left_out}


def _as_of_then(value: object, dumped: Any, defaults: int) -> Any:
    """A part of the pipeline file as it was dumped, without the keys that came later and hold their
    default, and with the defaults of then.
    """
    if isinstance(value, dict):
        return {key: _as_of_then(value[key], part, defaults) for key, part in dumped.items()}
    if not isinstance(value, BaseModel):
        return dumped
    parts: dict[str, Any] = {}
    for name, field in type(value).model_fields.items():
        if not _is_new(value, name, field, defaults):
            key = field.alias or name
            parts[key] = _as_of_then(getattr(value, name), dumped[key], defaults)
        if defaults == 0:
            before = _default_before(value, name, field)
            if before is not None:
                parts[name] = before
    return parts


def _is_new(table: BaseModel, name: str, field: FieldInfo, defaults: int) -> bool:
    """Whether a key came later, and says nothing else than what was done without it."""
    extra = field.json_schema_extra
    value = getattr(table, name)
    if extra == ADDED:
        return bool(value == field.get_default(call_default_factory=True))
    if not isinstance(extra, dict):
        return False
    since = extra.get(SINCE)
    if not isinstance(since, int) or defaults >= since:
        return False
    return name not in table.model_fields_set or value == extra.get(BEFORE)


def _default_before(table: BaseModel, name: str, field: FieldInfo) -> object:
    """What a key that the file leaves out was by default at release 0.1.0, if that has changed."""
    extra = field.json_schema_extra
    if name in table.model_fields_set or not isinstance(extra, dict):
        return None
    return extra.get(WAS)


def output_digest(place: str, left_out: tuple[str, ...]) -> str:
    """Digest of the files of an attempt, but for those whose path starts with one of `left_out`."""
    files = [file for file in storage.list_files(place) if not file.path.startswith(left_out)]
    # An object store has most digests at hand; the other files are read.
    digests = {file.path: file.digest for file in files if file.digest}
    return digest(digests | storage.file_digests([file for file in files if not file.digest]))


def digest(value: Mapping[str, Any]) -> str:
    """Digest of JSON-able values, whatever their order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
