"""Addresses of the inspector: `/`, `/item` and `/report`."""

from collections.abc import Callable
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from index_builder.registry.registry import Registry
from serving.http.hot_swap import Served, warm
from serving.http.http_errors import TYPES, Problem
from serving.http.service import Service
from serving.inspector import templating
from serving.inspector.address import Address
from serving.inspector.list_view import ListView, compared, recommended, similar
from serving.inspector.version_cache import Log, VersionCache
from serving.version.loaded_version import Version
from twinspire_core.contracts.artifact_files import REPORT
from twinspire_core.errors import TwinspireError, UsageError

Ask = Callable[[Version, bool], ListView]
"""Asks a version, which is the live one or is not."""
_HEADERS = {
    "Cache-Control": "no-store",  # it shows what people took
    "Referrer-Policy": "no-referrer",  # and so do its addresses
    "X-Content-Type-Options": "nosniff",
}
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
        self._log = Log(self._registry)
        self._shelf = VersionCache(service.open, warm)

    def user(self, request: Request) -> Response:
        """What is recommended to a user, or users to choose from; where an item is named, items
        like it.
        """
        form = Address.read(request.query_params.multi_items())
        if form.item:
            return self._answer(request, form, self._like)
        return self._answer(request, form, self._recommended if form.asks else None)

    def item(self, request: Request) -> Response:
        """Items like an item."""
        form = Address.read(request.query_params.multi_items())
        return self._answer(request, form, self._like)

    def report(self, request: Request) -> Response:
        """The report in a version's folder."""
        try:
            named = request.query_params.get("version")
            version = self._named(named) if named else self._service.version.id
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
        served = self._service.live.current
        try:
            self._service.check_ready()
            assert served is not None
            version, against = (text and self._named(text) for text in (form.version, form.against))
        except (Problem, TwinspireError) as e:
            return self._problem(request, e)
        form = replace(form, version=version, against=against)
        shown = dict.fromkeys([version or served.version.id, *([against] if against else [])])
        panels, problem = list[ListView](), None
        try:
            if checked:
                ask = checked(form)
                panels = compared([self._panel(name, served, ask) for name in shown])
        except Problem as e:
            problem = e
            self._count(request, e.type)
        status = (
            TYPES[problem.type][0] if problem else min((one.status for one in panels), default=200)
        )
        return _html(
            templating.view(self._service, served, form, self._choices(served), panels, problem),
            status,
        )

    def _recommended(self, form: Address) -> Ask:
        requests = self._service.requests
        body = form.recommend_body(requests.model) | {"display": True}
        request = self._service.parser.recommend_from(body)
        return lambda version, live: recommended(version, live, requests, request)

    def _like(self, form: Address) -> Ask:
        request = self._service.parser.similar_from(form.similar_body() | {"display": True})
        return lambda version, live: similar(version, live, request)

    def _panel(self, name: str, served: Served, ask: Ask) -> ListView:
        if name == served.version.id:
            return ask(served.version, True)
        try:
            version = self._shelf.get(name)
        except Exception as e:  # whatever is wrong with it, the page says so
            return ListView(
                version=name, live=False, problem=f"{name} cannot be loaded: {e}", status=409
            )
        return (
            ask(version, False)
            if version
            else ListView(version=name, live=False, loading=True, status=202)
        )

    def _named(self, text: str) -> str:
        live = self._service.version.id
        # The store need not answer for the live one
        return live if text == live else self._registry.find(text)

    def _choices(self, served: Served) -> list[templating.Choice]:
        live = templating.Choice("", f"live: {served.version.id}")
        return [
            live,
            *(
                templating.Choice(one.version, f"{one.version}, {one.status}")
                for one in self._log.stored()
            ),
        ]

    def _problem(self, request: Request, error: Problem | TwinspireError) -> Response:
        """A page that says what is wrong, and nothing else."""
        if isinstance(error, Problem):
            kind, status = error.type, TYPES[error.type][0]
        else:
            kind, status = (
                ("not_found", 404) if isinstance(error, UsageError) else ("not_ready", 503)
            )
        self._count(request, kind)
        wait = kind == "not_ready"
        return _html(
            templating.render("problem", self._service.pipeline, message=str(error), wait=wait),
            status,
        )

    def _count(self, request: Request, kind: str) -> None:
        self._service.metrics.errors.labels(request.url.path, kind).inc()


def _html(text: str, status: int) -> Response:
    return HTMLResponse(text, status, {**_HEADERS, "Content-Security-Policy": templating.policy()})


def router(service: Service) -> APIRouter:
    """The inspector's routes."""
    inspector, routes = Inspector(service), APIRouter(include_in_schema=False)

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
