"""The API described: the OpenAPI document's bodies and answers, by the types that check and make them,
with examples; and the document as a page for people.
"""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic takes no other one below Python 3.12

from serving.http import http_errors
from serving.http.bodies import BodyParser
from serving.http.events import EventsBody
from serving.requests.request_model import RequestModel

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]
BODY = (400, 401, 403, 408, 413, 415, 421, 422, 503)
"""Statuses of errors that every path with a body may answer with."""
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
"""


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
    # Definitions are taken out before they are put in their places.
    schema = TypeAdapter(described).json_schema()
    inlined: Schema = _inline(schema, schema.pop("$defs", {}))
    return inlined


def _inline(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(entry, definitions) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        others = {key: value for key, value in schema.items() if key != "$ref"}
        return _inline({**named, **others}, definitions)
    return {key: _inline(value, definitions) for key, value in schema.items()}


def recommend_body(requests: RequestModel, parser: BodyParser) -> dict[str, Any]:
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
    either = {"oneOf": [schema_of(parser.one_query), schema_of(parser.several_queries)]}
    return _json_body(either, examples)


def similar_body(parser: BodyParser) -> dict[str, Any]:
    """`requestBody` of `/v1/similar`."""
    return _json_body(
        schema_of(parser.similar_body), {"nearest to an item": {"item": "item1", "k": 10}}
    )


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
    """FastAPI's `responses` of a path.

    Args:
      answer: the type of its answer.
      statuses: the statuses of its errors.
    """
    return {200: {"description": description, "model": answer}, **problems(*sorted(statuses))}


def problems(*statuses: int) -> Responses:
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


def page(document: Schema, base: str) -> str:
    """The OpenAPI document as a page for people. It needs no network and no script.

    Args:
      document: the document, with references to types in it.
      base: the server's address, for commands to copy.
    """
    document = _inline(document, document["components"]["schemas"])
    info = document["info"]
    contents: list[str] = []
    sections: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            link = f'<a href="#{_anchor(path)}"><code>{path}</code></a>'
            contents.append(f"<li>{link} {operation['summary']}")
            sections += _operation(path, method, operation, base)
    return (
        '<!doctype html><html lang="en"><meta'
        f' charset="utf-8"><title>{escape(info["title"])}</title>'
        '<meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])}</h1>{_prose(info['description'])}"
        f"<ul>{''.join(contents)}</ul>{''.join(sections)}"
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. Twinspire'
        f" {escape(info['version'])}."
    )


def _operation(path: str, method: str, operation: Schema, base: str) -> Iterator[str]:
    yield f'<h2 id="{_anchor(path)}"><code>{method.upper()} {path}</code></h2>'
    yield _prose(operation["description"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for name, example in body.get("examples", {}).items():
        content = escape(json.dumps(example["value"], ensure_ascii=False))
        command = f"curl {escape(base)}{path} -d '{content}'"
        yield f"<p>{escape(name[0].upper() + name[1:])}:<pre>{command}</pre>"
    for schema in _choices(body.get("schema", {})):
        yield f"<h3>{escape(schema.get('title', 'The body'))}</h3>{_table(schema)}"
        # The queries of a list are the same, and are described once.
        if query := schema.get("properties", {}).get("query"):
            yield f"<h3>A query</h3>{_prose(query['description'])}{_table(query)}"
    yield "<h3>Answers</h3><div class=wide><table>"
    for status, answer in operation["responses"].items():
        yield f"<tr><td>{status}<td>{_markdown(answer['description'])}"
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        choices = _choices(schema)
        # Errors all look alike: their table would only repeat itself.
        if status == "200" and any(choice.get("properties") for choice in choices):
            yield _table(choices[0])
    yield "</table></div>"


def _choices(schema: Schema) -> list[Schema]:
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return list(choices)
    return [schema] if schema else []


def _table(schema: Schema) -> str:
    required = schema.get("required", ())
    rows = ""
    for name, value in schema.get("properties", {}).items():
        needed = ", needed" if name in required else ""
        rows += (
            f"<tr><td><code>{escape(name)}</code><td>{_kind(value)}{needed}"
            f"<td>{_markdown(value.get('description', ''))}"
        )
    return f"<div class=wide><table>{rows}</table></div>" if rows else ""


def _kind(schema: Schema) -> str:
    """The type of a value in words."""
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        named = [escape(str(value)) for value in schema["enum"] if value is not None]
        return " or ".join(f"<code>{name}</code>" for name in named)
    # A value that may be null is any of a type and null, and null is not worth a word.
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_kind, schema["anyOf"])))
    types = schema.get("type", "any")
    if isinstance(types, str):
        types = [types]
    named = [name for name in types if name != "null"]
    if named == ["array"]:
        return f"list of {_kind(schema['items'])}"
    text = " or ".join(named)
    if named == ["integer"] and "maximum" in schema:
        text += f" from {schema['minimum']:g} to {schema['maximum']:g}"
    if "default" in schema:
        text += f" (<code>{json.dumps(schema['default'])}</code>)"
    return text


def _prose(text: str) -> str:
    return "".join(f"<p>{_markdown(part)}" for part in text.strip().split("\n\n"))


def _markdown(text: str) -> str:
    """Markdown's code and bold."""
    return _between(_between(escape(text), "`", "code"), "**", "b")


def _between(text: str, mark: str, tag: str) -> str:
    """Puts the text between two marks into a tag."""
    parts = text.split(mark)
    parts[1::2] = [f"<{tag}>{part}</{tag}>" for part in parts[1::2]]
    return "".join(parts)


def _anchor(path: str) -> str:
    return path.strip("/").replace("/", "-")
