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
    operations = [
        (path, method, of)
        for path, found in document["paths"].items()
        for method, of in found.items()
    ]
    contents = "".join(
        f'<li><a href="#{_id(path)}"><code>{path}</code></a> {of["summary"]}'
        for path, _, of in operations
    )
    parts = [part for path, method, of in operations for part in _operation(path, method, of, base)]
    return (
        '<!doctype html><html lang="en"><meta'
        f' charset="utf-8"><title>{escape(info["title"])}</title>'
        '<meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])}</h1>{_prose(info['description'])}<ul>{contents}</ul>{''.join(parts)}"
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. Twinspire'
        f" {escape(info['version'])}."
    )


def _operation(path: str, method: str, of: Document, base: str) -> Iterator[str]:
    yield (
        f'<h2 id="{_id(path)}"><code>{method.upper()} {path}</code></h2>{_prose(of["description"])}'
    )
    body = of.get("requestBody", {}).get("content", {}).get("application/json", {})
    for name, example in body.get("examples", {}).items():
        sent = escape(json.dumps(example["value"], ensure_ascii=False))
        yield (
            f"<p>{escape(name[0].upper() + name[1:])}:<pre>curl {escape(base)}{path} -d"
            f" '{sent}'</pre>"
        )
    for schema in _choices(body.get("schema", {})):
        yield f"<h3>{escape(schema.get('title', 'The body'))}</h3>{_table(schema)}"
        if query := schema.get("properties", {}).get("query"):
            yield f"<h3>A query</h3>{_prose(query['description'])}{_table(query)}"
    yield "<h3>Answers</h3><div class=wide><table>"
    for status, answer in of["responses"].items():
        yield f"<tr><td>{status}<td>{_inline(answer['description'])}"
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if status == "200" and any(one.get("properties") for one in _choices(schema)):
            yield _table(_choices(schema)[0])
    yield "</table></div>"


def _choices(schema: Document) -> list[Document]:
    return schema.get("oneOf") or schema.get("anyOf") or ([schema] if schema else [])


def _table(schema: Document) -> str:
    required = schema.get("required", ())
    rows = [
        f"<tr><td><code>{escape(name)}</code><td>{_kind(of)}{', needed' if name in required else ''}"
        f"<td>{_inline(of.get('description', ''))}"
        for name, of in schema.get("properties", {}).items()
    ]
    return f"<div class=wide><table>{''.join(rows)}</table></div>" if rows else ""


def _kind(schema: Document) -> str:
    """What a value may be, in words."""
    if "enum" in schema:
        return " or ".join(
            f"<code>{escape(str(one))}</code>" for one in schema["enum"] if one is not None
        )
    if "anyOf" in schema:
        return " or ".join(filter(None, (_kind(one) for one in schema["anyOf"])))
    kinds = schema.get("type", "any")
    named = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null"]
    text = " or ".join(named)
    if named == ["array"]:
        return f"list of {_kind(schema['items'])}"
    if named == ["integer"] and "maximum" in schema:
        text += f" from {schema['minimum']:g} to {schema['maximum']:g}"
    return text + (
        f" (<code>{json.dumps(schema['default'])}</code>)" if "default" in schema else ""
    )


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}" for part in text.strip().split("\n\n"))


def _inline(text: str) -> str:
    """Markdown's code and bold."""
    for mark, tag in (("`", "code"), ("**", "b")):
        parts = (escape(text) if mark == "`" else text).split(mark)
        text = "".join(f"<{tag}>{part}</{tag}>" if n % 2 else part for n, part in enumerate(parts))
    return text


def _id(path: str) -> str:
    return path.strip("/").replace("/", "-")
