"""The pages for people: `/`, `/item`, `/report` and `/docs`.

It also shows stored versions other than the live one, and loads a few of them on demand.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Lock

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from index_builder.registry.registry import Registry
from serving.http.bodies import BodyParser
from serving.http.hot_swap import Served, warm
from serving.http.http_errors import TYPES, Problem
from serving.http.micro_batching import Parts, while_connected
from serving.http.service import Service
from serving.inspector import templating
from serving.inspector.home_page import Reading, RegistryReader
from serving.inspector.list_view import (
    LONGEST,
    MATCHES,
    CorpusView,
    ListView,
    Row,
    compared,
    find_items,
    recommended,
    similar,
)
from serving.requests.request_model import EXPLAINED
from serving.version.loaded_version import Version
from twinspire_core.contracts.version_manifest import REPORT
from twinspire_core.errors import TwinspireError, UsageError

log = logging.getLogger("twinspire.serve")


Ask = Callable[[Version, bool], Parts[ListView]]
"""Asks a version for a list; the second argument says whether it is the live one."""
_OTHERS = 2  # versions in memory besides the live one
# The most pages that are made at once. Each takes much longer than a request.
_PAGES = 8
# Addresses of the server for which the page of the API is kept.
_ADDRESSES = 8
# Addresses of pages contain histories of users.
_HEADERS = {"Referrer-Policy": "no-referrer"}
# A report is a page stored in a version, so whoever can publish could put a script into it.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)


class Inspector:
    """Answers with pages.

    Calls that may wait for a store run in threads of the pool. Lists and pages are made part by part, in
    turns with other answers, so that pages do not hold up requests.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._parser = BodyParser(
            service.requests.model, replace(settings, max_k=min(settings.max_k, LONGEST))
        )
        self._registry = Registry(service.pipeline.registry.root, service.pipeline.name)
        self._reader = RegistryReader(service.pipeline)
        # Versions besides the live one. The last requested one is at the end.
        self._others: dict[str, Version] = {}
        self._loading = Lock()  # memory has no room for loading two at the same time
        self._at_work = 0
        self._docs: dict[str, str] = {}  # by the server's address
        self._home_page = ""
        self._home_of: Sequence[object] = (None,) * 4
        self._making_home = Lock()

    async def lists(self, request: Request) -> Response:
        """The list for a user, or items like an item; without either, the state of the recommender."""
        form = templating.Address.read(request.query_params.multi_items())
        is_item = bool(form.item) or request.url.path == "/item"
        try:
            with self._one_more():
                if not (form.asks or is_item):
                    return await run_in_threadpool(self._home, form)
                shown = await run_in_threadpool(self._look_up, form)
                page = self._page(request, is_item, *shown)
                return await while_connected(request, self._service.batcher.submit_parts(page, 1))
        except (Problem, TwinspireError) as e:
            return self._problem(request, e)

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

    async def docs(self, request: Request) -> Response:
        """The API described for people."""
        # The address is the Host that the request names.
        server = str(request.base_url).rstrip("/")
        if server not in self._docs:
            # Bounded, because a request may name any Host
            if len(self._docs) >= _ADDRESSES:
                self._docs.clear()
            document = request.app.openapi()
            self._docs[server] = templating.docs(self._service.pipeline, document, server)
        return _html(self._docs[server], 200)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Counts a page while it is made. Too many at once raise a `Problem`."""
        # All pages are made in one event loop, so that counting needs no lock.
        if self._at_work >= _PAGES:
            raise Problem("overloaded", f"{_PAGES} pages are being made already. Try again soon.")
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def _read_report(self, named: str | None) -> bytes:
        version = self._find(named) if named else self._service.version.id
        if REPORT not in self._registry.manifest(version).files:
            raise Problem("not_found", f"{version} has no report. Run its day again to make one.")
        return self._registry.read(version, REPORT)

    def _home(self, form: templating.Address) -> Response:
        served = self._service.live.current
        if served:
            form = self._named(form)
        reading = self._reader.latest(served.version if served else None)
        make = partial(templating.home, self._service, served, form, reading)
        if form != templating.Address():
            return _html(make(datetime.now(UTC)), 200 if served else 503)
        # Without a filled-in field, the page is the same until the next reading
        live = self._service.live
        shown = (served, reading, live.failure, live.loading)
        with self._making_home:
            if not all(now is then for now, then in zip(shown, self._home_of, strict=True)):
                self._home_of, self._home_page = shown, make(datetime.now(UTC))
            return _html(self._home_page, 200 if served else 503)

    def _look_up(
        self, form: templating.Address
    ) -> tuple[templating.Address, Served, Reading, list[Version | ListView], list[Row]]:
        """Finds the versions that an address names, in the registry if need be, and opens them.

        Returns: the address with full ids, the live version, facts about versions, the opened versions, and
        the items of a name if there are several. In place of a version that cannot be loaded, a view says
        why.
        """
        # Read once, so that a version that goes live meanwhile does not answer half of a page.
        served = self._service.served()
        form = self._named(form)
        # The first call takes long, so it is made here and not in the batcher's thread.
        CorpusView.of(served.version)
        live = served.version.id
        # Distinct, because a version next to itself says nothing.
        names = dict.fromkeys(filter(None, (form.version or live, form.against)))
        opened = {live: served.version} | self._open([name for name in names if name != live])
        shown = [opened[name] for name in names]
        first = shown[0]
        rows = find_items(first, form.item) if form.item and isinstance(first, Version) else []
        if len(rows) == 1:
            form = replace(form, item=rows[0].item)
        return form, served, self._reader.latest(served.version), shown, rows

    def _named(self, form: templating.Address) -> templating.Address:
        """The address with the whole ids of its versions."""
        version, against = (name and self._find(name) for name in (form.version, form.against))
        return replace(form, version=version, against=against)

    def _open(self, names: list[str]) -> dict[str, Version | ListView]:
        """Versions besides the live one, loaded if they are not in memory. In place of one that cannot
        be loaded, a view says why.
        """
        if not names:
            return {}  # a page of the live version does not wait
        # All versions of a page at once, because a page that waits must not keep a version in memory.
        with self._loading:
            return {name: self._load(name) for name in names}

    def _load(self, name: str) -> Version | ListView:
        version = self._others.pop(name, None)
        if version is None:
            # Removed before the new one is loaded, so that memory has room for it.
            for oldest in [*self._others][: 1 - _OTHERS]:
                del self._others[oldest]
            try:
                version = self._service.open(name)
                warm(version)
                CorpusView.of(version)
            except Exception as e:  # the page shows the error
                log.warning("%s cannot be shown: %s: %s", name, type(e).__name__, e)
                problem = f"{name} cannot be loaded: {e}"
                return ListView(version=name, live=False, problem=problem, status=409)
        self._others[name] = version
        return version

    def _page(
        self,
        request: Request,
        is_item: bool,
        form: templating.Address,
        served: Served,
        reading: Reading,
        opened: list[Version | ListView],
        rows: list[Row],
    ) -> Parts[Response]:
        if len(rows) > 1:
            shown = {"typed": form.item, "rows": rows, "most": MATCHES}
            shown["to_item"] = form.link_to_items()
            return _html(templating.render("matches", self._service.pipeline, **shown), 200)
        views: list[ListView] = []
        problem: Problem | None = None
        try:
            ask = self._similar(form) if is_item else self._recommended(form)
            for version in opened:
                if isinstance(version, Version):
                    views.append((yield from ask(version, version is served.version)))
                else:
                    views.append(version)
            views = compared(views)
        except Problem as e:
            problem = e
            self._service.metrics.count_error(request.scope, e.type)
        yield 0  # gives other answers a turn before the page is rendered
        page = templating.view(self._service, served, form, reading, views, problem)
        if problem:
            return _html(page, TYPES[problem.type][0])
        # If one of two lists succeeds, the page does.
        return _html(page, min(view.status for view in views))

    def _recommended(self, form: templating.Address) -> Ask:
        requests = self._service.requests
        body = form.recommend_body(requests.model) | {"display": True}
        request = self._parser.recommend(body)
        # Explain the ranker's lists, unless they are too long for that.
        explain = request.options.k <= EXPLAINED
        request = request._replace(options=replace(request.options, explain=explain))
        return lambda version, live: recommended(version, live, requests, request)

    def _similar(self, form: templating.Address) -> Ask:
        request = self._parser.similar(form.similar_body() | {"display": True})
        return lambda version, live: similar(version, live, request)

    def _find(self, name: str) -> str:
        """The id of a version that an address names."""
        live = self._service.version.id
        # The live version is shown even if the store does not answer.
        return live if name == live else self._registry.find(name)

    def _problem(self, request: Request, error: Problem | TwinspireError) -> Response:
        """A page with only an error message."""
        if isinstance(error, Problem):
            kind = error.type
        elif isinstance(error, UsageError):
            kind = "not_found"
        else:
            kind = "not_ready"
        self._service.metrics.count_error(request.scope, kind)
        wait = TYPES[kind][0] == 503
        page = templating.render("problem", self._service.pipeline, message=str(error), wait=wait)
        return _html(page, TYPES[kind][0])


def _html(text: str, status: int) -> Response:
    return HTMLResponse(text, status, {**_HEADERS, "Content-Security-Policy": templating.policy()})


def router(service: Service) -> APIRouter:
    """The inspector's routes."""
    inspector = Inspector(service)
    routes = APIRouter(include_in_schema=False)
    for path, answer in (
        ("/", inspector.lists),
        ("/item", inspector.lists),
        ("/report", inspector.report),
        ("/docs", inspector.docs),
    ):
        routes.get(path)(answer)
    return routes
