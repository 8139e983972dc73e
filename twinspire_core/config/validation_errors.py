"""Messages about broken rules of a pipeline file.

For an unknown key, the message names the most similar key; for a wrong value, it lists the allowed values.
"""

import re
from collections.abc import Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.errors import did_you_mean, shorten

# The expected type of a key, by pydantic's name of the error.
_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "tuple_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

# What text must look like, by its pattern.
_PATTERNS = {
    r"^[a-z][a-z0-9_-]*$": "lower-case letters, digits, - and _, a letter first",
    r"^https?://[^\s/]+": "an address that begins with http:// or https://",
}

# Bounds of a number or of a list's length, by pydantic's name of the error: its name of the bound, and words.
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
    "too_short": ("min_length", "a list of {} or more"),
}
# What to do about keys of earlier releases.
_REMOVED = {
    "train.frequency.buckets": "delete the line. The size follows the number of items",
    "gate.max_lead_drop": "delete the line. The gate compares a version with the newest and the best"
    " accepted one; set gate.floors for logs that change daily",
}


def explain(error: ErrorDetails, pipeline: type[BaseModel]) -> str:
    """The message about one broken rule that pydantic reports for the whole file: the key, the value found,
    and the most similar allowed one.
    """
    path = list(error["loc"])
    kind = KINDS.get(str(path[2])) if path[:1] == ["features"] and len(path) > 2 else None
    if kind is not None:
        # pydantic adds the kind after the name of the feature, but the file does not
        del path[2]
    where = ".".join(map(str, path))

    match error["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            tag = error.get("ctx", {}).get("tag")
            return f"{where}.kind: {_choice(tag, list(KINDS))}"
        # pydantic lists the allowed values only as text.
        case "literal_error":
            allowed = re.findall("'([^']+)'", error["ctx"]["expected"])
            return f"{where}: {_choice(error['input'], allowed)}"
        case "string_pattern_mismatch":
            rule = _PATTERNS[error["ctx"]["pattern"]]
            return f"{where}: must be {rule}; found {error['input']!r}"
        case kind_of_error if kind_of_error in {*_TYPES, *_BOUNDS}:
            return f"{where}: {rule_of(error)}; found {_found(error['input'])}"
        case "missing":
            return f"{where}: this key is missing; add it"
        case "extra_forbidden":
            if remedy := _REMOVED.get(where):
                return f"{where}: this key was removed; {remedy}"
            table = path[:-1]
            keys = _keys(kind, table[2:]) if kind is not None else _keys(pipeline, table)
            hint = did_you_mean(str(path[-1]), keys) or f"known: {', '.join(keys)}"
            return f"{where}: unknown key; {hint}"
        case _:
            return f"{where or 'file'}: {rule_of(error)}"


def rule_of(error: ErrorDetails) -> str:
    """The rule that a value breaks, in words."""
    if limit := _BOUNDS.get(error["type"]):
        name, words = limit
        return f"must be {words.format(error['ctx'][name])}"
    if expected := _TYPES.get(error["type"]):
        return f"must be {expected}"
    return error["msg"].removeprefix("Value error, ")


def _choice(value: object, allowed: list[str]) -> str:
    rule = f"must be one of {', '.join(allowed)}"
    if value is None:
        return f"{rule}; it is missing"
    if not isinstance(value, str):
        return f"{rule}; found {_found(value)}"
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
