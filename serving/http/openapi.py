"""The OpenAPI document's bodies and answers, from the types in request_models.py and
answer_models.py, with examples.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic takes no other one below Python 3.12

from serving.http import http_errors
from serving.http.event_bodies import EventsBody
from serving.http.request_models import RequestBodies
from serving.requests.request_model import RequestModel

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]
BODY = (400, 401, 403, 408, 413, 415, 421, 422, 503)
"""Statuses of the errors that every path with a body has."""


class Error(TypedDict):
    """What was wrong."""

    type: str
    message: str
    where: NotRequired[Annotated[str, Field(description="The key that it is about.")]]
    did_you_mean: NotRequired[str]


class ErrorAnswer(TypedDict):
    """The body of every answer that is an error."""

    error: Error


def schema_of(described: Any) -> Schema:
    """The JSON schema of a type, without references: FastAPI takes a body's only as a whole."""
    schema = TypeAdapter(described).json_schema()
    inlined: Schema = _inline(schema, schema.pop("$defs", {}))
    return inlined


def without_references(document: Schema) -> Schema:
    """The whole document, with the types where they are used."""
    inlined: Schema = _inline(document, document["components"]["schemas"])
    return inlined


def _inline(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        others = {key: value for key, value in schema.items() if key != "$ref"}
        return _inline({**named, **others}, definitions)
    return {key: _inline(value, definitions) for key, value in schema.items()}


def recommend_body(requests: RequestModel, bodies: RequestBodies) -> dict[str, Any]:
    """`requestBody` of `/v1/recommend`."""
    examples = {
        "a user that the version knows": {"query": {"user": "u1"}, "k": 10},
        "raw features and a history": {
            "query": requests.example(),
            "k": 50,
            "exclude_seen": True,
        },
        "anybody, now": {"query": {}},
        "several at once": {"queries": [{"user": "u1"}, {"history": ["item1", "item2"]}], "k": 20},
    }
    either = {"oneOf": [schema_of(bodies.one_query), schema_of(bodies.several_queries)]}
    return _json_body(either, examples)


def similar_body(bodies: RequestBodies) -> dict[str, Any]:
    """`requestBody` of `/v1/similar`."""
    return _json_body(schema_of(bodies.similar), {"nearest to an item": {"item": "item1", "k": 10}})


def events_body() -> Schema:
    """`requestBody` of `/v1/events`."""
    examples = {
        "as they happen": {"events": [{"item": "item1", "user": "user1"}, {"item": "item2"}]},
        "those of before": {"events": [{"item": "item1", "time": "2024-04-15T09:30:00+02:00"}]},
    }
    return _json_body(schema_of(EventsBody), examples)


def _json_body(schema: Schema, examples: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: {"value": value} for name, value in examples.items()}
    content = {http_errors.JSON: {"schema": schema, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}


def responses(description: str, answer: Any, *statuses: int) -> Responses:
    """`responses` of a path.

    Args:
      description: what it answers.
      answer: the answer's type.
      statuses: those of its errors.
    """
    return {200: {"description": description, "model": answer}, **problems(*sorted(statuses))}


def problems(*statuses: int) -> Responses:
    """`responses` of errors."""
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
