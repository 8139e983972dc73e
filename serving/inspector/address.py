"""An address of the inspector: the request in it, and the addresses of neighbouring views.

/?user=7&k=20&allow.department=DELI&feature.device=phone&version=2024-03-02-3b8a8f8e&against=2024-03-01-77ab01c3
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import quote_plus, urlencode

from markupsafe import Markup, escape

from serving.requests.json_values import read_number
from serving.requests.request_model import RequestModel

_TEXTS = ("user", "k", "source", "exclude_seen", "rules", "new_share", "version", "against", "item")
_BY_NAME = ("feature", "allow", "deny")
Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a person filled in, as text. Empty is left out.

    Attributes:
      history: item ids, oldest first.
      feature: values of query features by column.
      exclude_seen: `1` or `0`; empty leaves it to the version.
      rules: `1` or `0`, whether the rules of the pipeline file hold; empty is `1`.
      new_share: empty leaves it to the pipeline file.
      allow: values by attribute; likewise `deny`.
      version: the version that answers; empty is the live one.
      against: a second version, whose list is shown next to the first.
      item: shows items like this one.
    """

    user: str = ""
    history: tuple[str, ...] = ()
    feature: Mapping[str, str] = field(default_factory=dict)
    k: str = ""
    source: str = ""
    exclude_seen: str = ""
    rules: str = ""
    new_share: str = ""
    allow: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deny: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: str = ""
    against: str = ""
    item: str = ""

    @classmethod
    def read(cls, pairs: Pairs) -> Self:
        """Reads an address. Unknown keys are ignored, because programs that pass addresses on add
        some.
        """
        texts: dict[str, str] = {}
        named: dict[str, dict[str, list[str]]] = {kind: {} for kind in _BY_NAME}
        history: list[str] = []
        for key, value in pairs:
            kind, dot, name = key.partition(".")
            if key == "history":
                history += filter(None, (line.strip() for line in value.split("\n")))
            # Of a key that is given twice the last value counts: a box sends `0`, and `1` if ticked.
            elif key in _TEXTS:
                texts[key] = value.strip()
            elif kind in _BY_NAME and dot and value.strip():
                named[kind].setdefault(name, []).append(value.strip())
        features = {name: values[-1] for name, values in named.pop("feature").items()}
        return cls(history=tuple(history), feature=features, **texts, **named)  # type: ignore[arg-type]

    @property
    def asks(self) -> bool:
        """Whether a list is wanted. An address that only names versions shows none."""
        # The form sends `0` for a box that is not ticked, whatever else is filled in.
        unticked = self.exclude_seen == "0"
        exclude_seen = "" if unticked else self.exclude_seen
        filled_in = replace(self, version="", against="", exclude_seen=exclude_seen, rules="")
        return filled_in != Address()

    def link(self, path: str = "/", **changes: Any) -> str:
        """The address of the same view with some changes."""
        query = urlencode(list(replace(self, **changes).pairs()))
        return f"{path}?{query}" if query else path

    def link_to_items(self) -> Callable[[str], Markup]:
        """A function that makes an item's address as HTML, with the view to come back to. A page has
        hundreds of items, so the part that all have is made once.
        """
        link = self.link("/item", item="")
        start = escape(f"{link}{'&' if '?' in link else '?'}item=")
        return lambda item: start + quote_plus(item)

    def pairs(self) -> Pairs:
        """The pairs of key and value that `read` reads."""
        for name in ("user", "history", *_TEXTS[1:]):
            values: Sequence[str] = self.history if name == "history" else [getattr(self, name)]
            yield from ((name, value) for value in values if value)
        yield from ((f"feature.{name}", value) for name, value in self.feature.items())
        for kind, by_attribute in (("allow", self.allow), ("deny", self.deny)):
            for name, values in by_attribute.items():
                yield from ((f"{kind}.{name}", value) for value in values)

    def recommend_body(self, requests: RequestModel) -> dict[str, Any]:
        """The same request as a body of `/v1/recommend`, with bad values as they were typed."""
        query: dict[str, Any] = {}
        for name, typed in self.feature.items():
            field = requests.fields.get(name)
            query[name] = field.value.read_typed(typed) if field else typed
        # The fields of every query win over features of the same name.
        query |= self._filled_in(
            user=self.user, history=list(self.history), allow=self.allow, deny=self.deny
        )
        options = self._filled_in(
            k=read_number(self.k),
            source=self.source,
            exclude_seen=self.exclude_seen != "0",
            rules=self.rules != "0",
            new_share=read_number(self.new_share),
        )
        return {"query": query, **options}

    def similar_body(self) -> dict[str, Any]:
        """The same request as a body of `/v1/similar`."""
        return self._filled_in(
            item=self.item, allow=self.allow, deny=self.deny, k=read_number(self.k)
        )

    def _filled_in(self, **values: Any) -> dict[str, Any]:
        """The values of the fields that a person has filled in."""
        return {name: value for name, value in values.items() if getattr(self, name)}
