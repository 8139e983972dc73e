"""Messages about broken rules of a pipeline file.

For an unknown key they name the most similar key, for a value that is not allowed all that are, and
for a removed key what to write instead.
"""

import re
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.errors import did_you_mean, shorten

# What a key must hold, by pydantic's name for an error of type.
_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "tuple_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
}

# Removed keys, and the one value that now always applies. Keys of features are by kind.
_CONSTANTS = {
    "vocabulary.max_size": "1,000,000; a larger vocabulary.min_events lets fewer in",
    "vocabulary.oov_buckets": "64",
    "train.shuffle_minutes": "60",
    "train.history.half_life": "10",
    "train.history.layers": "2",
    "train.history.heads": "2",
    "train.history.dropout": "0.2",
    "train.history.learning_rate": "0.001",
    "train.frequency.hashes": "2",
    "train.frequency.initial_gap": "as many examples as a day has, at least 100,000",
    "train.negatives.ranks": "[100, 500]",
    "evaluation.lately_days": "1",
    "evaluation.slices": "[1, 5, 20]",
    "evaluation.resamples": "200",
    "train.warm_epochs": "1",
    "train.auxiliary.loss": "the squared error, in units of the labels' standard deviation",
    "evaluation.max_users": "10,000",
    "gate.max_outside": "0.1; gate.on_skew says what happens above it",
    "gate.max_skew": "0.3; gate.on_skew says what happens above it",
    "gate.max_corpus_change": (
        "0.5; if a refused catalogue is right, use `twinspire promote --despite-gate`"
    ),
    "statistics.max_null_change": "0.2",
    "statistics.max_unknown": "0.5",
    "statistics.max_volume_change": "0.8",
    "index.k": "100",
    "index.exact_below": "10,000",
    "index.tree_above": "50,000",
    "notify.timeout": "30 seconds",
    "beam.batch_rows": "20,000",
    "features.id.dimension": "train.dimension",
    "features.category.dimension": "chosen by the number of values",
    "features.categories.dimension": "chosen by the number of values",
    "features.text.dimension": "chosen by the number of rows",
    "features.category.max_size": "10,000",
    "features.categories.max_size": "10,000",
    "features.text.hash_buckets": "20,000",
    "features.text.ngrams": "2",
    "features.time.parts": '["hour", "weekday"]',
    **{f"features.{kind}.tower": '"item"' for kind in ("count", "age")},
    **{f"features.{kind}.tower": '"query"' for kind in ("time", "history")},
}
REMOVED = {
    "mix": 'write [sources] with use = ["two_tower", "history", "popular", "co_occurrence"]',
    "ranking": "leave it out: a ranker is fitted each day wherever sources.use names several sources",
    "lists.exploration": "leave it out: lists reserve no places for items without events",
    "monitor": (
        "set registry.max_age and registry.server instead; Prometheus watches servers, and"
        " `twinspire status PIPELINE --check` checks the live version"
    ),
    **{key: f"leave it out; it is always {value}" for key, value in _CONSTANTS.items()},
    "window.vocabulary_days": "leave it out; the vocabulary has the ids of the last window.history_days",
    "vocabulary.keep_days": "leave it out; an id is dropped after window.history_days without events",
    "gate.refresh_refused": (
        "leave it out; the live version always gets the catalogue of a refused day"
    ),
    "statistics.max_linf": "write statistics.max_drift, which is for categories and numbers",
    "statistics.max_js": "write statistics.max_drift, which is for categories and numbers",
    "train.query_layers": "write train.layers, which applies to both towers",
    "train.item_layers": "write train.layers, which applies to both towers",
    "train.negatives.scores": "leave it out; semi_hard takes ranks 100 to 500",
    "gate.ranker_metric": "leave it out; gate.metric decides",
    "gate.max_slice_drop": "leave it out; a slice may lose twice gate.max_drop",
    "features.id.column": "leave it out; columns.user and columns.item name the columns of ids",
    "features.id.from": "leave it out; ids come from the events",
    "features.id.hash_buckets": "leave it out; the most frequent ids have rows of their own",
    "features.category.hash_buckets": "leave it out, or use kind text, which hashes its words",
    "evaluation.als": "leave it out; `python -m benchmarks.quality` compares with factorisation",
    "train.negatives.memory": "leave it out, or set train.negatives.uniform",
    "train.negatives.memory_after": "leave it out",
}
"""Removed keys, and what to write instead."""


def explain(error: ErrorDetails, pipeline: type[BaseModel]) -> str:
    """The message about one broken rule, as pydantic reports it for the model of the whole file: where it
    is, the value found, and what may have been meant.
    """
    path = list(error["loc"])
    kind = KINDS.get(str(path[2])) if path[:1] == ["features"] and len(path) > 2 else None
    of_kind = path
    if kind is not None:
        # pydantic adds the kind after the name of the feature; the file does not have it there
        of_kind = [path[0], path.pop(2), *path[2:]]
    where = ".".join(map(str, path))

    match error["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            tag = error.get("ctx", {}).get("tag")
            return f"{where}.kind: {_choice(tag, list(KINDS))}"
        # pydantic lists the allowed values in words only.
        case "literal_error" if isinstance(error["input"], str):
            allowed = re.findall("'([^']+)'", error["ctx"]["expected"])
            return f"{where}: {_choice(error['input'], allowed)}"
        case kind_of_error if kind_of_error in _TYPES:
            return f"{where}: must be {_TYPES[kind_of_error]}; found {_found(error['input'])}"
        case "extra_forbidden":
            answer = REMOVED.get(".".join(map(str, of_kind)))
            if answer:
                return f"{where} was removed: {answer}"
            table = path[:-1]
            keys = _keys(kind, table[2:]) if kind is not None else _keys(pipeline, table)
            hint = did_you_mean(str(path[-1]), keys) or f"known: {', '.join(keys)}"
            return f"{where}: unknown key; {hint}"
        case _:
            return f"{where or 'file'}: {error['msg'].removeprefix('Value error, ')}"


def _choice(value: str | None, allowed: list[str]) -> str:
    rule = f"must be one of {', '.join(allowed)}"
    if value is None:
        return f"{rule}; it is missing"
    return f"{rule}; found {value!r}{did_you_mean(value, allowed, '; ')}"


def _found(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as TOML spells it
    hint = ", which is text: leave the quotes out" if isinstance(value, str) else ""
    return f"{shorten(value)}{hint}"


def _keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Keys allowed in the table at `path` inside `model`."""
    for part in path:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
