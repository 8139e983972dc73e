"""Pages from templates: the form, the lists, and the description of the API.

Nothing here waits for another machine; it runs in worker threads.

An address of the inspector: the request in it, and the addresses of neighbouring views.

/?user=7&k=20&allow.department=DELI&feature.device=phone&version=2024-03-02-3b8a8f8e&against=2024-03-01-77ab01c3
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from typing import Any, Self
from urllib.parse import quote_plus, urlencode

from markupsafe import Markup, escape

from serving.http.hot_swap import Served
from serving.http.openapi import inlined
from serving.http.service import Service
from serving.inspector import home_page
from serving.inspector.home_page import Reading
from serving.inspector.list_view import LONGEST, CorpusView, ListView
from serving.requests.json_values import read_number
from serving.requests.request_model import RequestModel
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.display.pages import style, templates
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.table import counted, interval, number, share
from twinspire_core.errors import format_message, with_full_stop
from twinspire_core.version import __version__

_TEXTS = ("user", "k", "source", "exclude_seen", "rules", "new_share", "version", "against", "item")
_BY_NAME = ("feature", "allow", "deny")
KeyValues = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The fields that a person filled in, as text. Empty fields are left out.

    Attributes:
      history: item ids, oldest first.
      feature: values of query features by column.
      exclude_seen: `1` or `0`; if empty, the version decides.
      rules: `1` or `0`, whether the rules of the pipeline file hold; empty is `1`.
      new_share: if empty, the pipeline file decides.
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
    def read(cls, pairs: KeyValues) -> Self:
        """Reads an address. Unknown keys are ignored, because programs that forward addresses add some."""
        texts: dict[str, str] = {}
        named: dict[str, dict[str, list[str]]] = {kind: {} for kind in _BY_NAME}
        history: list[str] = []
        for key, value in pairs:
            kind, dot, name = key.partition(".")
            if key == "history":
                history += filter(None, (line.strip() for line in value.split("\n")))
            # If a key occurs twice, the last value counts: a checkbox sends `0`, and then `1` if it is
            # ticked.
            elif key in _TEXTS:
                texts[key] = value.strip()
            elif kind in _BY_NAME and dot and value.strip():
                named[kind].setdefault(name, []).append(value.strip())
        features = {name: values[-1] for name, values in named.pop("feature").items()}
        return cls(history=tuple(history), feature=features, **texts, **named)  # type: ignore[arg-type]

    @property
    def asks(self) -> bool:
        """Whether the address asks for a list. An address that only names versions does not."""
        # The form always sends `0` for a box that is not ticked.
        unticked = self.exclude_seen == "0"
        exclude_seen = "" if unticked else self.exclude_seen
        filled_in = replace(self, version="", against="", exclude_seen=exclude_seen, rules="")
        return filled_in != Address()

    def link(self, path: str = "/", **changes: Any) -> str:
        """The address of the same view with some changes."""
        query = urlencode(list(replace(self, **changes).pairs()))
        return f"{path}?{query}" if query else path

    def link_to_items(self) -> Callable[[str], Markup]:
        """A function that makes an item's address as HTML, with the view to come back to. A page has hundreds
        of items, so their common part is made once.
        """
        link = self.link("/item", item="")
        start = escape(f"{link}{'&' if '?' in link else '?'}item=")
        return lambda item: start + quote_plus(item)

    def pairs(self) -> KeyValues:
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


_PROPOSED = 12  # users that are shown as links


@cache
def policy() -> str:
    """The content security policy: a page has its own style, and sends forms to this server. No script
    runs.
    """
    digest = base64.b64encode(hashlib.sha256(style(__package__).encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )


def render(name: str, pipeline: Pipeline, **shown: Any) -> str:
    """A template by its name, filled in."""
    template = templates("serving.inspector", "templates").get_template(f"{name}.html.jinja")
    return template.render(
        pipeline=pipeline.name, css=style(__package__), software=__version__, **shown
    )


def docs(pipeline: Pipeline, document: Mapping[str, Any], server: str) -> str:
    """The OpenAPI document as a page. It needs no network and no script.

    Args:
      document: its references are to types in it.
      server: the server's address, for commands to copy.
    """
    return render(
        "docs",
        pipeline,
        document=inlined(document, document["components"]["schemas"]),
        server=server,
        text=_markdown,
        # Without escapes, because a shell does not read those of JSON.
        dumps=partial(json.dumps, ensure_ascii=False),
    )


def _markdown(text: str) -> str:
    """Markdown's paragraphs, code and bold as HTML."""
    marked = re.sub("`(.+?)`", r"<code>\1</code>", str(escape(text)))
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", marked)
    return marked.replace("\n\n", "<p>")


def _rules_text(lists: ListsConfig) -> str:
    """The rules of the pipeline file, as the end of a sentence; empty if there are none."""
    rules = [f"at most {cap} of a {name}" for name, cap in lists.caps.items()]
    if lists.new_share:
        rules.append(f"{share(lists.new_share)} new")
    return ", ".join(rules)


def view(
    service: Service,
    served: Served,
    form: Address,
    reading: Reading,
    views: Sequence[ListView],
    problem: Exception | None,
) -> str:
    """The page with one list or two, and the form that asks for them.

    Args:
      form: the request in the page's address.
      reading: facts about the live version, and versions to choose from.
      views: the lists.
      problem: why there is no list.
    """
    path, body = "/v1/similar", form.similar_body()
    if not form.item:
        path, body = "/v1/recommend", form.recommend_body(service.requests.model)
    return render(
        "item" if form.item else "user",
        service.pipeline,
        **_form(service, served, form, reading),
        views=views,
        path=path,
        body=json.dumps(body, ensure_ascii=False),
        problem=problem,
    )


def home(
    service: Service, served: Served | None, form: Address, reading: Reading, now: datetime
) -> str:
    """The page that says whether the recommender is well.

    Args:
      served: the live version; None if none answers yet.
    """
    pipeline = service.pipeline
    problems = home_page.find_problems(service, served, reading, now)
    return render(
        "home",
        pipeline,
        **(_form(service, served, form, reading) if served else {}),
        served=served,
        problems=problems,
        first=home_page.first_sentence(service, served, reading, problems),
        reading=reading,
        metric=pipeline.gate.metric,
        last=home_page.served_figure(pipeline, served, reading),
        late=home_page.days_without_version(reading),
        day_text=home_page.day_text,
        moment=partial(home_page.moment, pipeline),
        list_name=list_name,
        number=number,
        interval=interval,
        counted=counted,
        command=format_message,
        full=with_full_stop,
    )


def _form(service: Service, served: Served, form: Address, reading: Reading) -> dict[str, Any]:
    """The values of the form of a list, and the state of the live version above it."""
    version = served.version
    pipeline = service.pipeline
    corpus = CorpusView.of(version)
    # Links to a few of the proposed users, spread over all of them.
    step = max(1, len(corpus.users) // _PROPOSED)
    labels = ((status.version, f"{status.version}, {status.status}") for status in reading.stored)
    return {
        "form": form,
        "to_item": form.link_to_items(),
        "fields": [(field.key, field.value.hint) for field in service.requests.model.features],
        "attributes": [(name, corpus.values.get(name, [])) for name in pipeline.corpus.attributes],
        "users": corpus.users,
        "proposed": corpus.users[::step][:_PROPOSED],
        "exclude_seen": form.exclude_seen != "0" if form.exclude_seen else version.exclude_seen,
        "rules": _rules_text(pipeline.lists),
        "new_share": pipeline.lists.new_share,
        "sources": {name: list_name(name) for name in version.sources},
        "choices": [("", f"live: {version.id}"), *labels],
        "version": version,
        "figure": home_page.served_figure(pipeline, served, reading),
        # Without the registry: the time since when this server answers from this version
        "since": home_page.moment(pipeline, reading.live.get(version.id, (served.since, None))[0]),
        "most": min(service.settings.max_k, LONGEST),
    }
