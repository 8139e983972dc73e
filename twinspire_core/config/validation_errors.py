"""What is wrong with a pipeline file, in words: an unknown key with the nearest one that there is, a value
that is none of those allowed.
"""

import re
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from twinspire_core.config.feature_kinds import KINDS


def explain(error: ErrorDetails, pipeline: type[BaseModel]) -> str:
    """One broken rule: where, what was found, and what may have been meant.

    Args:
      error: as pydantic tells it.
      pipeline: the model of the whole file.
    """
    loc = error["loc"]
    kind = KINDS.get(str(loc[2])) if loc[:1] == ("features",) and len(loc) > 2 else None
    where = [str(part) for part in (loc[:2] + loc[3:] if kind else loc)]
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{'.'.join(where)}.kind: {_choice(error.get('ctx', {}).get('tag'), list(KINDS))}"
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        known = re.findall("'([^']+)'", error["ctx"]["expected"])
        return f"{'.'.join(where)}: {_choice(error['input'], known)}"
    if error["type"] != "extra_forbidden":
        return f"{'.'.join(where) or 'file'}: {error['msg'].removeprefix('Value error, ')}"
    known = _keys(kind or pipeline, loc[3:-1] if kind else loc[:-1])
    near = get_close_matches(where[-1], known, 1)
    return f"{'.'.join(where)}: unknown key; " + (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    )


def _choice(found: str | None, known: list[str]) -> str:
    near = get_close_matches(found or "", known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"one of {', '.join(known)}; {'it is missing' if found is None else f'found {found!r}'}{hint}"


def _keys(model: type[BaseModel], loc: tuple) -> list[str]:
    """Keys allowed in the table at `loc` inside `model`."""
    for part in loc:
        inner = model.model_fields[part].annotation
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else model
    return [field.alias or name for name, field in model.model_fields.items()]
