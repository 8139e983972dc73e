"""Addresses of the inspector: `/`, `/item` and `/report`.

Views, put into the templates. Nothing here waits for another machine; it runs in worker
threads.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from index_builder.registry.registry import Registry
from serving.http.bodies import BodyParser
from serving.http.connection import while_connected
from serving.http.hot_swap import Served, warm
from serving.http.http_errors import TYPES, Problem
from serving.http.micro_batching import Parts
from serving.http.service import Service
from serving.inspector.address import Address
from serving.inspector.list_view import LONGEST, ListView, compared, recommended, similar
from serving.inspector.version_view import (
    SOURCES,
    CorpusView,
    VersionCache,
    VersionList,
    cards,
    headline,
    moment,
)
from serving.requests.request_model import EXPLAINED
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.contracts.manifest import REPORT
from twinspire_core.display.pages import templates
from twinspire_core.display.served_figure import ServedFigure
from twinspire_core.display.table import share
from twinspire_core.errors import TwinspireError, UsageError
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


Ask = Callable[[Version, bool], Parts[ListView]]
"""Asks a version, which is the live one or is not."""
_PAGES = 8
"""At work at once."""
# Its addresses show what people took.
_HEADERS = {"Referrer-Policy": "no-referrer"}
# A report is a page that a version carries: whoever can publish could put a script into it.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)


class _Shown(NamedTuple):
    """What a page goes out from."""

    form: Address
    served: Served
    figure: ServedFigure | None
    choices: list[Choice]


class Inspector:
    """Answers with pages. What may wait for a store runs in threads of the pool. A list and its page are
    made in turns with other answers: whoever looks takes no more of the server than who asks.

    Args:
      service: what the server's routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._parser = BodyParser(
            service.requests.model, replace(settings, max_k=min(settings.max_k, LONGEST))
        )
        self._registry = Registry(service.pipeline.registry.root, service.pipeline.name)
        self._versions = VersionList(self._registry, service.pipeline.gate.metric)
        self._cache = VersionCache(service.open, _warm)
        self._at_work = 0

    async def user(self, request: Request) -> Response:
        """What is recommended to a user, or users to choose from; where an item is named, items
        like it.
        """
        form = Address.read(request.query_params.multi_items())
        if form.item:
            return await self._answer(request, form, self._similar)
        return await self._answer(request, form, self._recommended if form.asks else None)

    async def item(self, request: Request) -> Response:
        """Items like an item."""
        form = Address.read(request.query_params.multi_items())
        return await self._answer(request, form, self._similar)

    async def report(self, request: Request) -> Response:
        """The report in a version's folder."""
        try:
            with self._one_more():
                named = request.query_params.get("version")
                content = await run_in_threadpool(self._read_report, named)
        except (Problem, TwinspireError) as e:
            return self._problem(request, e)
        return HTMLResponse(
            content, headers={**_HEADERS, "Content-Security-Policy": _REPORT_POLICY}
        )

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Counts a page that is at work.

        Raises:
          Problem: too many are.
        """
        if self._at_work >= _PAGES:
            raise Problem("overloaded", f"{_PAGES} pages are at work; try again in a moment.")
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def _read_report(self, named: str | None) -> bytes:
        version = self._find(named) if named else self._service.version.id
        if REPORT not in self._registry.manifest(version).files:
            raise Problem("not_found", f"{version} has no report: run its day again to make one.")
        return self._registry.read(version, REPORT)

    async def _answer(
        self, request: Request, form: Address, checked: Callable[[Address], Ask] | None
    ) -> Response:
        """A page.

        Args:
          request: that is answered.
          form: what is filled in.
          checked: checks it, and says how a version is asked; None asks none.
        """
        try:
            with self._one_more():
                shown = await run_in_threadpool(self._look_up, form)
                page = self._page(request, shown, checked)
                return await while_connected(request, self._service.batcher.submit_parts(page, 1))
        except (Problem, TwinspireError) as e:
            return self._problem(request, e)

    def _look_up(self, form: Address) -> _Shown:
        """Finds what an address names, in the registry if need be."""
        self._service.check_ready()
        # Taken once: a version that goes live meanwhile must not answer half a page.
        served = self._service.live.current
        assert served is not None
        form = replace(
            form,
            version=form.version and self._find(form.version),
            against=form.against and self._find(form.against),
        )
        CorpusView.of(served.version)  # which takes long the first time
        figure = self._versions.figure(served.version.id)
        return _Shown(form, served, figure, self._choices(served))

    def _page(
        self, request: Request, shown: _Shown, checked: Callable[[Address], Ask] | None
    ) -> Parts[Response]:
        views: list[ListView] = []
        problem: Problem | None = None
        try:
            if checked:
                views = yield from self._views(shown, checked(shown.form))
        except Problem as e:
            problem = e
            self._count(request, e.type)
        yield 0
        page = view(
            self._service, shown.served, shown.form, shown.figure, shown.choices, views, problem
        )
        return _html(page, _status(views, problem))

    def _views(self, shown: _Shown, ask: Ask) -> Parts[list[ListView]]:
        names = [shown.form.version or shown.served.version.id]
        if shown.form.against and shown.form.against not in names:
            names.append(shown.form.against)
        views: list[ListView] = []
        for name in names:
            views.append((yield from self._view(name, shown.served, ask)))
        return compared(views)

    def _recommended(self, form: Address) -> Ask:
        requests = self._service.requests
        body = form.recommend_body(requests.model) | {"display": True}
        request = self._parser.recommend_from(body)
        # Why a ranker has the items where they are, unless there are too many of them to tell.
        explain = request.options.k <= EXPLAINED
        request = request._replace(options=replace(request.options, explain=explain))
        return lambda version, live: recommended(version, live, requests, request)

    def _similar(self, form: Address) -> Ask:
        request = self._parser.similar_from(form.similar_body() | {"display": True})
        return lambda version, live: similar(version, live, request)

    def _view(self, name: str, served: Served, ask: Ask) -> Parts[ListView]:
        if name == served.version.id:
            return (yield from ask(served.version, True))
        try:
            version = self._cache.get(name)
        except Exception as e:  # whatever is wrong with it, the page says so
            return ListView(
                version=name, live=False, problem=f"{name} cannot be loaded: {e}", status=409
            )
        if version is None:
            return ListView(version=name, live=False, loading=True, status=202)
        return (yield from ask(version, False))

    def _find(self, name: str) -> str:
        """The id of a version that an address names."""
        live = self._service.version.id
        # The store need not answer for the live one.
        return live if name == live else self._registry.find(name)

    def _choices(self, served: Served) -> list[Choice]:
        choices = [Choice("", f"live: {served.version.id}")]
        for one in self._versions.stored():
            choices.append(Choice(one.version, f"{one.version}, {one.status}"))
        return choices

    def _problem(self, request: Request, error: Problem | TwinspireError) -> Response:
        """A page that says what is wrong, and nothing else."""
        if isinstance(error, Problem):
            kind = error.type
        elif isinstance(error, UsageError):
            kind = "not_found"
        else:
            kind = "not_ready"
        self._count(request, kind)
        wait = TYPES[kind][0] == 503
        page = render("problem", self._service.pipeline, message=str(error), wait=wait)
        return _html(page, TYPES[kind][0])

    def _count(self, request: Request, kind: str) -> None:
        self._service.metrics.errors.labels(request.scope["path"], kind).inc()


def _warm(version: Version) -> None:
    warm(version)
    CorpusView.of(version)


def _status(views: Sequence[ListView], problem: Problem | None) -> int:
    """The status of a page: of two lists, one that is there is enough."""
    if problem:
        return TYPES[problem.type][0]
    return min((view.status for view in views), default=200)


def _html(text: str, status: int) -> Response:
    return HTMLResponse(text, status, {**_HEADERS, "Content-Security-Policy": policy()})


def router(service: Service) -> APIRouter:
    """The inspector's routes."""
    inspector = Inspector(service)
    routes = APIRouter(include_in_schema=False)
    for path, answer in (
        ("/", inspector.user),
        ("/item", inspector.item),
        ("/report", inspector.report),
    ):
        routes.get(path)(answer)
    return routes
