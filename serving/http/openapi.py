"""The API described in its OpenAPI document: bodies and answers by the types that check and make them."""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic takes no other one below Python 3.12

from serving.http import http_errors

BODY = (400, 401, 403, 408, 413, 415, 421, 422, 503)
"""Statuses of errors that every path with a body may answer with."""


class Error(TypedDict):
    """What was wrong."""

    type: str
    message: str
    where: NotRequired[Annotated[str, Field(description="The key that it is about.")]]
    did_you_mean: NotRequired[str]


class ErrorAnswer(TypedDict):
    """The body of every answer that is an error."""

    error: Error


def body(described: Any, examples: Mapping[str, Any]) -> dict[str, Any]:
    """FastAPI's `openapi_extra` of a path whose body it does not read itself.

    Args:
      described: the type of the body.
      examples: bodies by what they ask for.
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
