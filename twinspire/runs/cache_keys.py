"""What a stage's result depends on, as digests: its key, its part of the pipeline file, and the
files that it wrote.

A move of files makes no past day stale, nor does a release by itself: a key carries the stage's
`format`, not its code. A raised format, or a new key of the pipeline file that the stage uses, makes
the days of that stage stale, once.
docs/decisions/0003-attempts-and-keys.md
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from twinspire.runs.stages import Stage
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline

# When or where the logs are found does not change a result: their digests stand in the key.
_WITHOUT_EFFECT = {
    "source": {"wait", "done_marker", "events", "items", "users"},
    "train": {"wait"},
}


def stage_key(stage: Stage, **facts: Any) -> str:
    """Digest of all that a stage's output is a function of: its format, and what the caller knows
    of its inputs.
    """
    return digest({"stage": stage.name, "format": stage.format, **facts})


def config_digest(pipeline: Pipeline, stage: Stage) -> str:
    """Digest of the keys of the pipeline file that the stage uses."""
    tables = pipeline.model_dump(mode="json", by_alias=True)
    used: dict[str, object] = {}
    for path in stage.config:
        table, _, key = path.partition(".")
        whole = tables[table]
        used[path] = whole[key] if key else _used_of_table(pipeline, stage, table, whole)
        if path == "serving.user_store":  # how many are stored concerns the version alone
            used[path] = bool(whole[key])
    return digest(used)


def _used_of_table(pipeline: Pipeline, stage: Stage, table: str, keys: dict[str, Any]) -> object:
    """What a stage uses of a table of which it uses most."""
    reads_logs = stage.after is None
    if table == "sources" and reads_logs:
        # It fits tables of some sources, and counts where there are several.
        return [*pipeline.sources.fitted, pipeline.sources.several]
    if table == "sources" and stage.name == "train":
        # It encodes more queries where there is a ranker.
        return pipeline.sources.several
    return _without(keys, _WITHOUT_EFFECT.get(table, set()))


def _without(table: dict[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in left_out}


def output_digest(place: str, left_out: tuple[str, ...]) -> str:
    """Digest of the files of an attempt, but for those whose path starts with one of `left_out`."""
    files = [file for file in storage.list_files(place) if not file.path.startswith(left_out)]
    # An object store has most digests at hand; the other files are read.
    digests = {file.path: file.digest for file in files if file.digest}
    return digest(digests | storage.file_digests([file for file in files if not file.digest]))


def digest(value: Mapping[str, Any]) -> str:
    """Digest of JSON-able values, whatever their order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
