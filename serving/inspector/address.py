"""An address of the inspector: what it asks, and the addresses next to it.

/?user=7&k=20&allow.department=DELI&feature.device=phone&version=2024-03-02-3b8a8f8e&against=2024-03-01-77ab01c3
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlencode

import pyarrow as pa

from serving.requests.query_rows import STRINGS, Requests
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns

_TEXTS = ("user", "k", "source", "exclude_seen", "version", "against", "item")
_BY_NAME = ("feature", "allow", "deny")
Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What was filled in, as text; what is empty was left out.

    Attributes:
      history: item ids, oldest first.
      feature: of the query, by column.
      allow: values by attribute.
      deny: values by attribute.
      version: whose answer is shown; empty is the live one.
      against: the version that is shown beside it.
      item: that others are compared with.
    """

    user: str = ""
    history: tuple[str, ...] = ()
    feature: Mapping[str, str] = field(default_factory=dict)
    k: str = ""
    source: str = ""
    exclude_seen: str = ""
    allow: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deny: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: str = ""
    against: str = ""
    item: str = ""

    @classmethod
    def read(cls, pairs: Pairs) -> Self:
        """Reads an address. What it says besides is left alone: programs that pass addresses on add
        to them.
        """
        texts = dict[str, str]()
        named: dict[str, dict[str, list[str]]] = {kind: {} for kind in _BY_NAME}
        history = list[str]()
        for key, value in pairs:
            kind, dot, name = key.partition(".")
            if key == "history":
                history += filter(None, (line.strip() for line in value.split("\n")))
            elif key in _TEXTS:
                texts[key] = value.strip()
            elif kind in _BY_NAME and dot and value.strip():
                named[kind].setdefault(name, []).append(value.strip())
        features = {name: values[-1] for name, values in named.pop("feature").items()}
        return cls(history=tuple(history), feature=features, **texts, **named)  # type: ignore[arg-type]

    @property
    def asks(self) -> bool:
        """Whether a list is wanted: an address that only names versions shows no list."""
        return replace(self, version="", against="") != Address()

    def link(self, path: str = "/", **changes: Any) -> str:
        """The address of the same view but for some changes."""
        query = urlencode(list(replace(self, **changes).pairs()))
        return f"{path}?{query}" if query else path

    def pairs(self) -> Pairs:
        """What `read` reads."""
        for name in ("user", "history", *_TEXTS[1:]):
            values = self.history if name == "history" else [getattr(self, name)]
            yield from ((name, value) for value in values if value)
        yield from ((f"feature.{name}", value) for name, value in self.feature.items())
        for kind in ("allow", "deny"):
            of = getattr(self, kind)
            yield from (
                (f"{kind}.{name}", value) for name, values in of.items() for value in values
            )

    def recommend_body(self, requests: Requests) -> dict[str, Any]:
        """The body that `/v1/recommend` takes for it; bad values are in it as they were typed."""
        query: dict[str, Any] = {
            name: _value(requests, name, text) for name, text in self.feature.items()
        }
        given = {
            "user": self.user,
            "history": list(self.history),
            "allow": self.allow,
            "deny": self.deny,
        }
        query |= {key: value for key, value in given.items() if value}
        body: dict[str, Any] = {"query": query} | self._k()
        body |= {"source": self.source} if self.source else {}
        return body | ({"exclude_seen": True} if self.exclude_seen else {})

    def similar_body(self) -> dict[str, Any]:
        """The body that `/v1/similar` takes for it."""
        given = {"item": self.item, "allow": self.allow, "deny": self.deny}
        return {key: value for key, value in given.items() if value} | self._k()

    def _k(self) -> dict[str, Any]:
        return {"k": _number(self.k)} if self.k else {}


def query_features(pipeline: Pipeline) -> list[pa.Field]:
    """Columns of a query but the user's id and the history, in the pipeline file's order."""
    shared = (pipeline.user_id, pipeline.history_name)
    features = pipeline.tower("query").items()
    return [c for name, f in features if name not in shared for c in feature_columns(name, f)]


def _value(requests: Requests, name: str, text: str) -> Any:
    """The text as its column takes it, where it can be."""
    kind = requests.schema.field(name).type if name in requests.schema.names else pa.string()
    if kind == pa.string():
        return text
    if kind == STRINGS:
        return [part.strip() for part in text.split(",") if part.strip()]
    if pa.types.is_list(kind):
        return [_number(part) for part in text.replace(",", " ").split()]
    return _number(text)


def _number(text: str) -> int | float | str:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return text
