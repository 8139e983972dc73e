"""Views, put into the templates. Nothing here waits for another machine; it runs in worker
threads.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from serving.http.hot_swap import Served
from serving.http.service import Service
from serving.inspector.address import Address
from serving.inspector.list_view import LONGEST, ListView
from serving.inspector.version_view import SOURCES, CorpusView, cards, headline, moment
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.display.pages import templates
from twinspire_core.display.served_figure import ServedFigure
from twinspire_core.display.table import share
from twinspire_core.version import __version__

_PROPOSED = 12  # users, as links


@dataclass(frozen=True, slots=True)
class Choice:
    """An option of a list to choose from."""

    value: str
    label: str


@cache
def style() -> str:
    """The style sheet."""
    return files(__package__).joinpath("page.css").read_text()


@cache
def policy() -> str:
    """What a browser may do with the page: show it in its own style, and send its forms here. No
    script runs.
    """
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )


def render(name: str, pipeline: Pipeline, **shown: Any) -> str:
    """A template of the folder, filled in."""
    environment = templates("serving.inspector", "templates")
    template = environment.get_template(f"{name}.html.jinja")
    return template.render(pipeline=pipeline.name, css=style(), software=__version__, **shown)


def _rules_text(lists: ListsConfig) -> str:
    """The rules of the pipeline file, to end a sentence with; empty where there are none."""
    told = [f"at most {cap} of a {name}" for name, cap in lists.caps.items()]
    if lists.new_share:
        told.append(f"{share(lists.new_share)} new")
    return ", ".join(told)


def view(
    service: Service,
    served: Served,
    form: Address,
    figure: ServedFigure | None,
    choices: Sequence[Choice],
    views: Sequence[ListView],
    problem: Exception | None,
) -> str:
    """A list, or two, with the form that asks for them.

    Args:
      service: whose.
      served: the live version, and since when.
      form: what was asked.
      figure: how good what the live version serves is.
      choices: versions to choose from.
      views: the answers; without one, users to choose from are shown.
      problem: why there is no answer.
    """
    version = served.version
    pipeline = service.pipeline
    corpus = CorpusView.of(version)
    requests = service.requests.model
    if form.item:
        path = "/v1/similar"
        body = form.similar_body()
    else:
        path = "/v1/recommend"
        body = form.recommend_body(requests)
    # Spread over the users that can be chosen.
    step = max(1, len(corpus.users) // _PROPOSED)
    return render(
        "item" if form.item else "user",
        pipeline,
        form=form,
        to_item=form.link_to_items(),
        fields=[(field.key, field.value.hint) for field in requests.features],
        attributes=[(name, corpus.values.get(name, [])) for name in pipeline.corpus.attributes],
        users=corpus.users,
        proposed=corpus.users[::step][:_PROPOSED],
        exclude_seen=form.exclude_seen != "0" if form.exclude_seen else version.exclude_seen,
        rules=_rules_text(pipeline.lists),
        new_share=pipeline.lists.new_share,
        sources=[Choice(name, SOURCES[name]) for name in version.sources],
        choices=choices,
        views=views,
        loading=any(one.loading for one in views),
        version=version,
        cards=cards(served, figure, pipeline.zone),
        headline=headline(figure) if figure else None,
        since=moment(served.since, pipeline.zone),
        most=min(service.settings.max_k, LONGEST),
        path=path,
        body=json.dumps(body, ensure_ascii=False),
        problem=problem,
    )
