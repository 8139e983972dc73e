"""The parts of the OpenAPI document: types of answers and errors, and descriptions of bodies."""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import ConfigDict, Field, InstanceOf, TypeAdapter, WithJsonSchema, with_config
from typing_extensions import TypedDict  # pydantic takes no other one below Python 3.12

from serving.answers.answer import ReasonPart
from serving.http import http_errors
from serving.requests.query_rows import Basis

BODY = (400, 401, 403, 408, 413, 415, 421, 422, 503)
"""Statuses of errors that every path with a body may answer with."""
_CLOSED = ConfigDict(extra="forbid")
Described = dict[str, str | None]
"""Display columns of an item, by name."""


def _about(description: str, **more: Any) -> Any:
    return Field(description=description, json_schema_extra=more or None)


_Items = Annotated[list[str], _about("Item ids, best first.")]
_Numbers = Annotated[
    InstanceOf[np.ndarray],  # float32, so that numbers are written with the digits of that type
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
_Scores = Annotated[
    _Numbers,
    _about(
        "Two-tower: cosines. Fixed order: sums of weights. Ranker: its scores. Other sources: by"
        " place."
    ),
]
_Display = Annotated[list[Described], _about("With `display`: the items' display columns.")]
_Notes = Annotated[
    list[str],
    _about("Warnings: why a list is short or has few new items, which values are unknown."),
]


class _OfVersion(TypedDict):
    version: Annotated[str, _about("The version that made the whole answer.")]


class _OfQuery(TypedDict):
    user: str | None
    known: Annotated[
        bool | None, _about("Whether the user is stored; null: the version stores no users.")
    ]
    based_on: Annotated[
        Basis,
        _about(
            "What the answer is based on. `nothing`: everybody about whom nothing is known gets this one now."
        ),
    ]
    notes: NotRequired[_Notes]


class Encoded(_OfQuery):
    """The vector of a query."""

    vector: Annotated[_Numbers, _about("Of the query tower. Its length is 1.")]


class _OfTowers(_OfVersion):
    towers: Annotated[
        str,
        _about(
            "The version that these towers come from. Compare the vector only with items exported"
            " with the same `towers`."
        ),
    ]


class OneEncoded(_OfTowers, Encoded):
    """The answer of `/v1/encode` to one query."""


class SeveralEncoded(_OfTowers):
    """The answer of `/v1/encode` to a list of queries."""

    results: list[Encoded]


class Result(_OfQuery):
    """A list for a query."""

    source: str
    exclude_seen: Annotated[bool, _about("Whether items that the user had before are left out.")]
    items: _Items
    scores: _Scores
    sources: NotRequired[
        Annotated[
            list[str],
            _about(
                "The source that contributed most to each item's score; for `ranked`, the source that"
                " listed it highest. Not with `two_tower`."
            ),
        ]
    ]
    reasons: NotRequired[
        Annotated[
            list[list[ReasonPart]],
            _about(
                "With `explain` and `ranked`: up to three features that moved each item most, the"
                " strongest first. Items that fill up the list have none."
            ),
        ]
    ]
    display: NotRequired[_Display]
    history: NotRequired[
        Annotated[
            list[Described],
            _about("With `display`: the user's history, newest first."),
        ]
    ]


class OneAnswer(_OfVersion, Result):
    """The answer of `/v1/recommend` to one query."""


class SeveralAnswers(_OfVersion):
    """The answer of `/v1/recommend` to a list of queries."""

    results: list[Result]


@with_config(_CLOSED)
class SimilarAnswer(_OfVersion):
    """The answer of `/v1/similar`."""

    item: str
    items: _Items
    scores: _Scores
    display: NotRequired[_Display]
    notes: NotRequired[_Notes]


@with_config(_CLOSED)
class EventsAnswer(_OfVersion):
    """The answer of `/v1/events`."""

    taken: Annotated[int, _about("The number of events in the body. All are kept.")]
    unknown_items: Annotated[int, _about("Events of items that the version does not know yet.")]
    before_version: Annotated[int, _about("Events that the version's counts contain already.")]
    notes: NotRequired[_Notes]


@with_config(_CLOSED)
class LoadFailure(TypedDict):
    """Why a version could not be loaded."""

    version: Annotated[str | None, _about("null: the registry did not say which is live.")]
    error: str
    at: Annotated[str, _about("Time of the last try.", format="date-time")]
    tries: Annotated[int, _about("Failed tries in a row.")]


class VersionFacts(TypedDict, total=False):
    """The facts about the live version in `/v1/version`."""

    day: Annotated[str, _about("The last day that its towers were trained on.", format="date")]
    corpus_date: Annotated[str, _about("The day of its catalogue.", format="date")]
    refreshes: Annotated[
        str | None,
        _about("For a refresh: the version that its towers come from; else null."),
    ]
    since: Annotated[str, _about("When it began to answer.", format="date-time")]
    items: int
    new_items: Annotated[
        int,
        _about("Items that are newer than the version and joined by live events (`/v1/events`)."),
    ]
    dimension: Annotated[int, _about("Width of the vectors.")]
    parent: Annotated[str | None, _about("The version that its training started from.")]
    users: Annotated[int | None, _about("Number of stored users; null: it stores none.")]
    sources: Annotated[list[str], _about("Possible values of `source`.")]
    exclude_seen: Annotated[
        bool, _about("Whether seen items are left out if a request does not choose.")
    ]
    index: Annotated[str, _about("Kind of its index.")]
    notes: Annotated[list[str], _about("Parts of the version that this server cannot use.")]


@with_config(_CLOSED)
class VersionAnswer(VersionFacts):
    """The answer of `/v1/version`."""

    pipeline: str
    version: Annotated[str | None, _about("The live version; null: none answers yet.")]
    loading: Annotated[str | None, _about("The version that is being loaded.")]
    failure: Annotated[
        LoadFailure | None, _about("Why the newest live version could not be loaded.")
    ]


class Error(TypedDict):
    """An error."""

    type: str
    message: str
    where: NotRequired[Annotated[str, _about("The key with the error.")]]
    did_you_mean: NotRequired[str]


class ErrorAnswer(TypedDict):
    """The body of every answer that is an error."""

    error: Error


def body(described: Any, examples: Mapping[str, Any]) -> dict[str, Any]:
    """FastAPI's `openapi_extra` of a path whose body it does not read itself.

    Args:
      described: the type of the body.
      examples: example bodies by their titles.
    """
    schema = TypeAdapter(described).json_schema()
    content = {
        # FastAPI takes this schema as it is, so a reference in it would point nowhere.
        "schema": inlined(schema, schema.pop("$defs", {})),
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {http_errors.JSON: content}}}


def inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema with definitions in place of references to them."""
    if isinstance(schema, list):
        return [inlined(entry, definitions) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    named = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
    whole = {**named, **schema}
    return {key: inlined(value, definitions) for key, value in whole.items() if key != "$ref"}


def responses(description: str, answer: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` of a path.

    Args:
      answer: the type of its answer.
      statuses: the statuses of its errors.
    """
    return {200: {"description": description, "model": answer}, **problems(*sorted(statuses))}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` of errors with these statuses."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": "; ".join(
                f"`{kind}`: {text}"
                for kind, (code, text) in http_errors.TYPES.items()
                if code == status
            ),
        }
        for status in statuses
    }
