"""The OpenAPI document's bodies and answers: JSON schemas of the types in request_models.py and
answer_models.py, with examples.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from serving.http import http_errors
from serving.http.answer_models import (
    EventsAnswer,
    OneAnswer,
    SeveralAnswers,
    SimilarAnswer,
    VersionAnswer,
)
from serving.http.event_bodies import EventsBody
from serving.http.request_models import RequestBodies
from serving.requests.request_model import RequestModel
from serving.requests.value_types import typed_dict

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]
_REFUSED = (401, 403, 421)


class _SchemaWriter(GenerateJsonSchema):
    """Pydantic's, but one literal is an enumeration too, null is one of a value's types, as
    people read it, and keys have no titles.
    """

    # Names are pydantic's, which calls these methods.
    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = dict(self.generate_inner(schema["schema"]))
        if "enum" in inner:
            inner["enum"] = [*inner["enum"], None]
        if "type" in inner:
            types = inner["type"] if isinstance(inner["type"], list) else [inner["type"]]
            return {**inner, "type": [*types, "null"]}
        if "anyOf" in inner:
            return {**inner, "anyOf": [*inner["anyOf"], {"type": "null"}]}
        return super().nullable_schema(schema)

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        written = super().literal_schema(schema)
        if "const" in written:
            written["enum"] = [written.pop("const")]
        return written

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(described: Any) -> Schema:
    """The JSON schema of a type, without references: the page at `/docs` reads it as it is."""
    schema = TypeAdapter(described).json_schema(schema_generator=_SchemaWriter)
    inlined: Schema = _inline(schema, schema.pop("$defs", {}))
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


def recommend_responses() -> Responses:
    """`responses` of `/v1/recommend`."""
    answer = _response("Lists, in the order of the queries.", OneAnswer | SeveralAnswers)
    return {200: answer, **problems(400, *_REFUSED, 408, 409, 413, 415, 422, 503)}


def similar_responses() -> Responses:
    """`responses` of `/v1/similar`."""
    answer = _response("The nearest items, best first.", SimilarAnswer)
    return {200: answer, **problems(400, *_REFUSED, 404, 408, 413, 415, 422, 503)}


def events_responses() -> Responses:
    """`responses` of `/v1/events`."""
    answer = _response("What came of them.", EventsAnswer)
    return {200: answer, **problems(400, *_REFUSED, 408, 413, 415, 422, 503)}


def version_responses() -> Responses:
    """`responses` of `/v1/version`."""
    answer = _response("What answers, and what is wrong with what should.", VersionAnswer)
    return {200: answer, **problems(401, 421)}


def problems(*statuses: int) -> Responses:
    """`responses` of errors."""
    responses: Responses = {}
    for status in statuses:
        kinds = {kind: text for kind, (code, text) in http_errors.TYPES.items() if code == status}
        meaning = "; ".join(f"`{kind}`: {text}" for kind, text in kinds.items())
        responses[status] = _response(meaning, _error_type(tuple(kinds)))
    return responses


def _error_type(kinds: tuple[str, ...]) -> Any:
    members = {
        "type": Literal[kinds],
        "message": str,
        "where": NotRequired[Annotated[str, Field(description="The key that it is about.")]],
        "did_you_mean": NotRequired[str],
    }
    error = typed_dict("Error", members, ConfigDict())
    return typed_dict("ErrorAnswer", {"error": error}, ConfigDict(extra="forbid"))


def _response(description: str, answer: Any) -> dict[str, Any]:
    return {
        "description": description,
        "content": {http_errors.JSON: {"schema": schema_of(answer)}},
    }
