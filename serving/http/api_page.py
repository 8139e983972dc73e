"""The OpenAPI document as a page for people. It needs no network and no script."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Document = Mapping[str, Any]
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


def page(document: Document, base: str) -> str:
    """The page.

    Args:
      document: of OpenAPI.
      base: where the server is, for the commands to copy.
    """
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


def _operation(path: str, method: str, operation: Document, base: str) -> Iterator[str]:
    yield f'<h2 id="{_anchor(path)}"><code>{method.upper()} {path}</code></h2>'
    yield _prose(operation["description"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for name, example in body.get("examples", {}).items():
        content = escape(json.dumps(example["value"], ensure_ascii=False))
        command = f"curl {escape(base)}{path} -d '{content}'"
        yield f"<p>{escape(name[0].upper() + name[1:])}:<pre>{command}</pre>"
    for schema in _choices(body.get("schema", {})):
        yield f"<h3>{escape(schema.get('title', 'The body'))}</h3>{_table(schema)}"
        # Queries of a list are the same: they are described once.
        if query := schema.get("properties", {}).get("query"):
            yield f"<h3>A query</h3>{_prose(query['description'])}{_table(query)}"
    yield "<h3>Answers</h3><div class=wide><table>"
    for status, answer in operation["responses"].items():
        yield f"<tr><td>{status}<td>{_inline(answer['description'])}"
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        choices = _choices(schema)
        if status == "200" and any(choice.get("properties") for choice in choices):
            yield _table(choices[0])
    yield "</table></div>"


def _choices(schema: Document) -> list[Document]:
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        return list(choices)
    return [schema] if schema else []


def _table(schema: Document) -> str:
    required = schema.get("required", ())
    rows = ""
    for name, value in schema.get("properties", {}).items():
        needed = ", needed" if name in required else ""
        rows += (
            f"<tr><td><code>{escape(name)}</code><td>{_kind(value)}{needed}"
            f"<td>{_inline(value.get('description', ''))}"
        )
    return f"<div class=wide><table>{rows}</table></div>" if rows else ""


def _kind(schema: Document) -> str:
    """What a value may be, in words."""
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        named = [escape(str(value)) for value in schema["enum"] if value is not None]
        return " or ".join(f"<code>{name}</code>" for name in named)
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
    return "".join(f"<p>{_inline(part)}" for part in text.strip().split("\n\n"))


def _inline(text: str) -> str:
    """Markdown's code and bold."""
    return _between(_between(escape(text), "`", "code"), "**", "b")


def _between(text: str, mark: str, tag: str) -> str:
    """Puts what stands between two marks into a tag."""
    parts = text.split(mark)
    parts[1::2] = [f"<{tag}>{part}</{tag}>" for part in parts[1::2]]
    return "".join(parts)


def _anchor(path: str) -> str:
    return path.strip("/").replace("/", "-")
