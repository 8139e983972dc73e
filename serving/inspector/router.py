"""Addresses of the inspector: `/`, `/item` and `/report`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from index_builder.registry.registry import Registry
from serving.http.hot_swap import Served, warm
from serving.http.http_errors import TYPES, Problem
from serving.http.request_models import EXPLAINED
from serving.http.service import Service
from serving.inspector import templating
from serving.inspector.address import Address
from serving.inspector.list_view import ListView, compared, recommended, similar
from serving.inspector.version_cache import VersionCache, VersionList
from serving.version.loaded_version import Version
from twinspire_core.contracts.artifact_files import REPORT
from twinspire_core.errors import TwinspireError, UsageError

Ask = Callable[[Version, bool], ListView]
"""Asks a version, which is the live one or is not."""
# Its addresses show what people took.
_HEADERS = {"Referrer-Policy": "no-referrer"}
# A report is a page that a version carries: whoever can publish could put a script into it.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)


class Inspector:
    """Answers with pages. All of it runs in worker threads.

    Args:
      service: what the server's routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = Registry(service.pipeline.registry.root, service.pipeline.name)
        self._versions = VersionList(self._registry)
        self._cache = VersionCache(service.open, warm)

    def user(self, request: Request) -> Response:
        """What is recommended to a user, or users to choose from; where an item is named, items
        like it.
        """
        form = Address.read(request.query_params.multi_items())
        if form.item:
            return self._answer(request, form, self._similar)
        return self._answer(request, form, self._recommended if form.asks else None)

    def item(self, request: Request) -> Response:
        """Items like an item."""
        form = Address.read(request.query_params.multi_items())
        return self._answer(request, form, self._similar)

    def report(self, request: Request) -> Response:
        """The report in a version's folder."""
        try:
            named = request.query_params.get("version")
            version = self._find(named) if named else self._service.version.id
            if REPORT not in self._registry.manifest(version).files:
                raise Problem(
                    "not_found",
                    f"A version carries a report; {version} has none: an earlier release made it.",
                )
            content = self._registry.read(version, REPORT)
        except (Problem, TwinspireError) as e:
            return self._problem(request, e)
        return HTMLResponse(
            content, headers={**_HEADERS, "Content-Security-Policy": _REPORT_POLICY}
        )

    def _answer(
        self, request: Request, form: Address, checked: Callable[[Address], Ask] | None
    ) -> Response:
        """A page.

        Args:
          request: for the metrics.
          form: what is filled in.
          checked: checks it, and says how a version is asked; None asks none.
        """
        # Taken once: a version that goes live meanwhile must not answer half a page.
        served = self._service.live.current
        try:
            self._service.check_ready()
            assert served is not None
            form = replace(
                form,
                version=form.version and self._find(form.version),
                against=form.against and self._find(form.against),
            )
        except (Problem, TwinspireError) as e:
            return self._problem(request, e)
        views: list[ListView] = []
        problem: Problem | None = None
        try:
            if checked:
                views = self._views(form, served, checked(form))
        except Problem as e:
            problem = e
            self._count(request, e.type)
        page = templating.view(self._service, served, form, self._choices(served), views, problem)
        return _html(page, _status(views, problem))

    def _views(self, form: Address, served: Served, ask: Ask) -> list[ListView]:
        names = [form.version or served.version.id]
        if form.against and form.against not in names:
            names.append(form.against)
        return compared([self._view(name, served, ask) for name in names])

    def _recommended(self, form: Address) -> Ask:
        requests = self._service.requests
        body = form.recommend_body(requests.model) | {"display": True}
        request = self._service.parser.recommend_from(body)
        # Why a ranker has the items where they are, unless there are too many of them to tell.
        explain = request.options.k <= EXPLAINED
        request = request._replace(options=request.options._replace(explain=explain))
        return lambda version, live: recommended(version, live, requests, request)

    def _similar(self, form: Address) -> Ask:
        request = self._service.parser.similar_from(form.similar_body() | {"display": True})
        return lambda version, live: similar(version, live, request)

    def _view(self, name: str, served: Served, ask: Ask) -> ListView:
        if name == served.version.id:
            return ask(served.version, True)
        try:
            version = self._cache.get(name)
        except Exception as e:  # whatever is wrong with it, the page says so
            return ListView(
                version=name, live=False, problem=f"{name} cannot be loaded: {e}", status=409
            )
        if version is None:
            return ListView(version=name, live=False, loading=True, status=202)
        return ask(version, False)

    def _find(self, name: str) -> str:
        """The id of a version that an address names."""
        live = self._service.version.id
        # The store need not answer for the live one.
        return live if name == live else self._registry.find(name)

    def _choices(self, served: Served) -> list[templating.Choice]:
        choices = [templating.Choice("", f"live: {served.version.id}")]
        for one in self._versions.stored():
            choices.append(templating.Choice(one.version, f"{one.version}, {one.status}"))
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
        wait = kind == "not_ready"
        page = templating.render("problem", self._service.pipeline, message=str(error), wait=wait)
        return _html(page, TYPES[kind][0])

    def _count(self, request: Request, kind: str) -> None:
        self._service.metrics.errors.labels(request.scope["path"], kind).inc()


def _status(views: Sequence[ListView], problem: Problem | None) -> int:
    """The status of a page: of two lists, one that is there is enough."""
    if problem:
        return TYPES[problem.type][0]
    return min((view.status for view in views), default=200)


def _html(text: str, status: int) -> Response:
    return HTMLResponse(text, status, {**_HEADERS, "Content-Security-Policy": templating.policy()})


def router(service: Service) -> APIRouter:
    """The inspector's routes."""
    inspector = Inspector(service)
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def user(request: Request) -> Response:
        return await run_in_threadpool(inspector.user, request)

    @routes.get("/item")
    async def item(request: Request) -> Response:
        return await run_in_threadpool(inspector.item, request)

    @routes.get("/report")
    async def report(request: Request) -> Response:
        return await run_in_threadpool(inspector.report, request)

    return routes
