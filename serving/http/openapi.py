"""Bodies and answers, described for OpenAPI. What a query holds follows from the pipeline file's
query features.
"""

from collections.abc import Mapping
from typing import Any

from serving.answers.retrieval import SOURCES
from serving.http import http_errors
from serving.http.bodies import K
from serving.http.server_settings import Settings
from serving.requests.query_rows import Requests
from serving.requests.request_values import LARGEST
from twinspire_core.config.feature_kinds import (
    CategoriesFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    NumberFeature,
    TimeFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline

Schema = dict[str, Any]
_WHOLE: Schema = {"minimum": -(2**63), "maximum": 2**63}  # larger numbers lose digits
_ID: Schema = {"type": ["string", "integer"], "examples": ["u7"], **_WHOLE}
_ITEMS: Schema = {"type": "array", "items": {**_ID, "examples": ["i3"]}}
_STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
_NULL = "null"


def query_schema(pipeline: Pipeline) -> Schema:
    """One query: every key may be left out, or null."""
    properties: dict[str, Schema] = {
        "user": {**_ID, "description": "The user's id. Left out: nobody in particular."},
        "history": {
            **_ITEMS,
            "description": (
                "Item ids, **oldest first**; give all there is. Left out: what the version knows."
            ),
        },
        "exclude": {**_ITEMS, "description": "Item ids that must not come back."},
    }
    properties |= _filters(pipeline)
    for name, f in pipeline.tower("query").items():
        properties |= _feature(name, f)
    nullable = {name: _or_null(schema) for name, schema in properties.items()}
    return {
        "type": "object",
        "title": "Query",
        "description": (
            "Whom to recommend to, and when. What a query says wins over what the version knows."
        ),
        "properties": nullable,
        "additionalProperties": False,
    }


def _feature(name: str, f: Feature) -> dict[str, Schema]:
    if isinstance(f, TimeFeature):
        zone = "in the pipeline's time zone. Left out: now"
        return {
            f"{name}_hour": {"type": "integer", "minimum": 0, "maximum": 23, "description": f"Hour, {zone}."},
            f"{name}_weekday": {
                "type": "integer", "minimum": 0, "maximum": 6, "description": f"Weekday, 0 is Monday, {zone}."
            },
        }  # fmt: skip
    told = f"Query feature of kind `{f.kind}`."
    match f:
        case NumberFeature():
            return {name: {**_NUMBER, "description": told}}
        case VectorFeature(size=size):
            vector = {"type": "array", "items": _NUMBER, "minItems": size, "maxItems": size}
            return {name: {**vector, "description": told}}
        case HistoryFeature():
            return {name: {**_ITEMS, "description": "Another name for `history`."}}
        case IdFeature():
            return {name: {**_ID, "description": "Another name for `user`."}}
        case CategoriesFeature(separator=separator):
            listed: Schema = {"type": "array", "items": _TEXT}
            if separator:
                listed = {"anyOf": [listed, {"type": "string"}]}
            return {name: {**listed, "description": told}}
        case _:
            return {name: {**_TEXT, "description": told}}


_NUMBER: Schema = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
_TEXT: Schema = {"type": ["string", "integer", "boolean"], **_WHOLE}


def _filters(pipeline: Pipeline) -> dict[str, Schema]:
    attributes = pipeline.corpus.attributes
    if not attributes:
        return {}
    return {
        "allow": _filter(
            attributes, "Of every attribute named, an item that is listed has one of the values."
        ),
        "deny": _filter(
            attributes, "Of every attribute named, an item that is listed has none of the values."
        ),
    }


def _filter(attributes: tuple[str, ...], description: str) -> Schema:
    one: Schema = {"type": ["string", "number", "boolean"]}
    values = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    return {
        "type": "object",
        "properties": dict.fromkeys(attributes, values),
        "additionalProperties": False,
        "description": description,
    }


def _or_null(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), list):
        return {**schema, "type": [*schema["type"], _NULL]}
    if "type" in schema:
        return {**schema, "type": [schema["type"], _NULL]}
    return {**schema, "anyOf": [*schema["anyOf"], {"type": _NULL}]}


def recommend_body(pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    """`requestBody` of `/v1/recommend`."""
    query = query_schema(pipeline)
    options = {
        "k": _k(settings),
        "source": {
            "type": ["string", _NULL],
            "enum": [*SOURCES, None],
            "description": (
                "Where items come from. Left out: the version's mix of sources where it has one,"
                " else the two-tower; and what is popular lately where nothing is known of the"
                " user."
            ),
        },
        "exclude_seen": _flag(
            "Leave out the history, and what the version knows the user to have taken."
        ),
        "display": _flag("Send display columns of the items, and the history, along."),
    }
    one = _object({"query": query, **options}, "query")
    queries = {"type": "array", "items": query, "minItems": 1, "maxItems": settings.max_queries}
    many = _object({"queries": queries, **options}, "queries")
    example = Requests(pipeline).example()
    examples = {
        "a user that the version knows": {"query": {"user": "u1"}, "k": 10},
        "raw features and a history": {"query": example, "k": 50, "exclude_seen": True},
        "anybody, now": {"query": {}},
        "several at once": {"queries": [{"user": "u1"}, {"history": ["item1", "item2"]}], "k": 20},
    }
    return _json_body({"oneOf": [{**one, "title": "One"}, {**many, "title": "Several"}]}, examples)


def similar_body(pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    """`requestBody` of `/v1/similar`."""
    properties = {
        "item": {**_ID, "description": "An item of the live version's catalogue."},
        "k": _k(settings),
        **{key: _or_null(schema) for key, schema in _filters(pipeline).items()},
        "display": _flag("Send display columns along."),
    }
    return _json_body(
        _object(properties, "item"), {"nearest to an item": {"item": "item1", "k": 10}}
    )


def _json_body(schema: Schema, examples: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: {"value": value} for name, value in examples.items()}
    return {
        "requestBody": {
            "required": True,
            "content": {http_errors.JSON: {"schema": schema, "examples": shown}},
        }
    }


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {
        "type": "object", "properties": dict(properties), "required": list(required), "additionalProperties": False
    }  # fmt: skip


def _k(settings: Settings) -> Schema:
    return {
        "type": ["integer", _NULL], "minimum": 1, "maximum": settings.max_k, "default": K,
        "description": "Items of a list.",
    }  # fmt: skip


def _flag(description: str) -> Schema:
    return {"type": ["boolean", _NULL], "default": False, "description": description}


_SCORES: Schema = {"type": "array", "items": {"type": "number"}}
_RECORDS: Schema = {"type": "array", "items": {"type": "object"}}
_RESULT: dict[str, Schema] = {
    "user": {"type": ["string", _NULL]},
    "known": {
        "type": ["boolean", _NULL],
        "description": "Whether the version has the user; null: it has none.",
    },
    "based_on": {
        "enum": ["stored_user", "history", "features", "id", "nothing"],
        "description": (
            "What the answer rests on. `nothing`: it is the answer for anybody at this time."
        ),
    },
    "source": {"enum": list(SOURCES)},
    "items": {**_STRINGS, "description": "Item ids, best first."},
    "scores": {
        **_SCORES,
        "description": "Cosines of the two-tower; sums of weights of the mix; else by place.",
    },
    "sources": {
        **_STRINGS,
        "description": "The source that gave most to each item's score; not with `two_tower`.",
    },
    "display": {**_RECORDS, "description": "With `display`: the items' display columns."},
    "history": {
        **_RECORDS,
        "description": "With `display`: what the answer goes out from, newest first.",
    },
    "notes": {
        **_STRINGS,
        "description": "What the asker should know: why a list is short, which values are unknown.",
    },
}
_ALWAYS = ("user", "known", "based_on", "source", "items", "scores")
_VERSION: Schema = {
    "type": "string",
    "description": "The version that all of the answer comes from.",
}


def recommend_answers() -> dict[int | str, dict[str, Any]]:
    """`responses` of `/v1/recommend`."""
    one = {
        "type": "object",
        "properties": {"version": _VERSION, **_RESULT},
        "required": ["version", *_ALWAYS],
    }
    result = {"type": "object", "properties": _RESULT, "required": list(_ALWAYS)}
    properties = {"version": _VERSION, "results": {"type": "array", "items": result}}
    many = {"type": "object", "properties": properties, "required": ["version", "results"]}
    answer = _answer("Lists, in the order of the queries.", {"anyOf": [one, many]})
    return {200: answer, **problems(400, 401, 409, 413, 422, 503)}


def similar_answers() -> dict[int | str, dict[str, Any]]:
    """`responses` of `/v1/similar`."""
    properties = {name: _RESULT[name] for name in ("items", "scores", "display", "notes")}
    schema = _object(
        {"version": _VERSION, "item": {"type": "string"}, **properties}, "version", "item", "items"
    )
    return {
        200: _answer("The nearest items, best first.", schema),
        **problems(400, 401, 404, 413, 422, 503),
    }


def version_answers() -> dict[int | str, dict[str, Any]]:
    """`responses` of `/v1/version`."""
    properties: dict[str, Schema] = {
        "pipeline": {"type": "string"},
        "version": {"type": ["string", _NULL], "description": "What answers; null: nothing yet."},
        "day": {
            "type": "string",
            "format": "date",
            "description": "The day its towers were trained up to.",
        },
        "corpus_date": {
            "type": "string",
            "format": "date",
            "description": "The day of its catalogue.",
        },
        "refreshes": {
            "type": ["string", _NULL],
            "description": (
                "The version whose towers it has, with a later catalogue; null: it was trained"
                " itself."
            ),
        },
        "since": {
            "type": "string",
            "format": "date-time",
            "description": "When it began to answer.",
        },
        "items": {"type": "integer"},
        "dimension": {"type": "integer", "description": "Width of the vectors."},
        "parent": {"type": ["string", _NULL], "description": "The version it was trained on from."},
        "users": {
            "type": ["integer", _NULL],
            "description": "Users that it knows; null: it carries none.",
        },
        "sources": {**_STRINGS, "description": "What `source` may name."},
        "index": {"type": "string", "description": "Kind of its index."},
        "loading": {"type": ["string", _NULL], "description": "The version that is being loaded."},
        "failure": {
            "type": ["object", _NULL],
            "description": "Why the newest live version could not be loaded.",
        },
    }
    schema = _object(properties, "pipeline", "version", "loading", "failure")
    return {
        200: _answer("What answers, and what is wrong with what should.", schema),
        **problems(401),
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of errors."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kinds = {name: text for name, (code, text) in http_errors.TYPES.items() if code == status}
        error = {
            "type": "object",
            "properties": {
                "type": {"enum": list(kinds)},
                "message": {"type": "string"},
                "where": {"type": "string", "description": "The key that it is about."},
                "did_you_mean": {"type": "string"},
            },
            "required": ["type", "message"],
        }
        schema = _object({"error": error}, "error")
        found[status] = _answer(
            "; ".join(f"`{name}`: {text}" for name, text in kinds.items()), schema
        )
    return found


def _answer(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {http_errors.JSON: {"schema": schema}}}
