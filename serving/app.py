"""The whole server: the application with all routes, the checks and counts of every request, and the
process that runs it.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from io import TextIOBase
from typing import Any, TextIO
from urllib.parse import quote

import orjson
import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http import http_errors
from serving.http.connection import LimitedConnection
from serving.http.http_errors import SAFE_HEADERS, Problem
from serving.http.prometheus import Metrics
from serving.http.server_settings import LOOPBACK, Settings
from serving.http.service import Service, asking, watching
from serving.inspector.router import router
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError, shorten
from twinspire_core.terminal import console
from twinspire_core.version import __version__

OPEN = ("/healthz", "/readyz")
"""Paths that need no token, for orchestrators."""
PACED = ("/", "/docs", "/openapi.json", "/report")
"""Pages that begin one after the other. Clients that read them in a loop would take turns from requests."""
_BETWEEN_PAGES = 0.03  # seconds
_MOST_WAITING = 100
# The last one is what `curl -d` sends with any body. No type at all is allowed, too.
_JSON_TYPES = (b"/json", b"+json", b"/x-www-form-urlencoded")
# Bytes of an address. It is limited because pages repeat their address in links. A longer request
# can be sent as a body.
_LONGEST_ADDRESS = 8192
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]*)?")
_SAFE_HEADERS = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]
log = logging.getLogger("twinspire.serve")


class RequestMiddleware:
    """Checks access, counts and times requests. If the server fails, it logs the error once and answers 500.

    Args:
      app: the application behind it.
      settings: `tokens`, `hosts` and `access_log` of them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._hosts = settings.hosts and {name.lower() for name in settings.hosts}
        self._metrics = metrics
        self._access_log = settings.access_log
        self._turn = asyncio.Lock()
        self._next_page = 0.0
        self._waiting = 0
        self._tokens = [token.encode() for token in settings.tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_SAFE_HEADERS]
            await send(message)

        path = self._metrics.path(scope)
        try:
            problem = None if path in OPEN else self._refusal(scope)
            if problem is None:
                if path in PACED:
                    await self._wait_for_turn()
                await self._app(scope, receive, send_noting_status)
            else:
                self._metrics.count_error(scope, problem.type)
                await problem.response()(scope, receive, send_noting_status)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._metrics.count_error(scope, "internal")
            # Half an answer is out already. Only a broken connection can tell the client.
            if status:
                raise
            response = Problem("internal", "The server failed; its log says why.").response()
            await response(scope, receive, send_noting_status)
        finally:
            if self._access_log:
                # Without the query of the address, because pages have user ids in theirs.
                log.info(
                    '%s "%s %s HTTP/%s" %s',
                    scope["client"] and scope["client"][0],
                    scope["method"],
                    quote(scope["path"]),
                    scope["http_version"],
                    status,
                )
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _wait_for_turn(self) -> None:
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(self._next_page - time.monotonic())
                self._next_page = time.monotonic() + _BETWEEN_PAGES
        finally:
            self._waiting -= 1

    def _refusal(self, scope: Scope) -> Problem | None:
        """Why a request is refused; None if it may pass."""
        length = len(scope["raw_path"]) + len(scope["query_string"])
        if length > _LONGEST_ADDRESS:
            return Problem(
                "address_too_long",
                f"An address can have at most {_LONGEST_ADDRESS:,} bytes; found {length:,}. Send a"
                " longer request as a body.",
            )
        if scope["path"] in PACED and self._waiting >= _MOST_WAITING:
            return Problem(
                "overloaded", f"{_MOST_WAITING} pages are waiting already. Try again soon."
            )
        headers = dict(scope["headers"])
        if self._hosts is not None and _host_name(headers) not in self._hosts:
            name = shorten(headers.get(b"host", b"").decode("latin-1"))
            return Problem(
                "wrong_host",
                f"The Host header must be one of {', '.join(sorted(self._hosts))}; found {name}. Start"
                " `twinspire serve` with --allowed-host to allow another name.",
            )
        if scope["method"] == "POST":
            if _is_of_another_origin(headers):
                return Problem(
                    "cross_origin",
                    "Pages of another origin must not call this server. Call it from a program.",
                )
            content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if content_type and not content_type.endswith(_JSON_TYPES):
                name = shorten(content_type.decode("latin-1"))
                return Problem(
                    "not_json",
                    f"A body must be sent with Content-Type: application/json; found {name}.",
                )
        if self._tokens and not self._has_token(headers):
            return Problem(
                "unauthorized",
                "This server requires a token. Send Authorization: Bearer TOKEN, or, in a browser,"
                " give the token as the password.",
            )
        return None

    def _has_token(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request carries one of the tokens."""
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        value = value.strip()
        if scheme.lower() == b"basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        # In constant time: the time must not reveal how much of a token was right. A list, because `any`
        # of a generator would stop at the first match.
        equal = [hmac.compare_digest(value, token) for token in self._tokens]
        return any(equal)


def _host_name(headers: Mapping[bytes, bytes]) -> str:
    """The name in a request's Host header, without brackets and port."""
    match = _HOST.fullmatch(headers.get(b"host", b""))
    return match[1].decode("latin-1").strip("[]").lower() if match else ""


def _is_of_another_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a page of another origin sent the request. Only browsers send these headers."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


_GRACE = 30  # seconds that requests in flight get when the server ends
# Seconds that an idle connection stays open. Balancers close theirs earlier; otherwise they would send
# requests into a connection that is being closed.
_KEEP_ALIVE = 75
ABOUT = """
Items for users, from the live version of **{name}**. Every answer names the version that made it.

Errors are `{{"error": {{"type", "message", "where", "did_you_mean"}}}}`; `where` names the key.
"""


def create_app(pipeline: Pipeline, settings: Settings | None = None) -> FastAPI:
    """The server of one recommender as an ASGI application. It follows the registry from its startup
    event to its shutdown event. `app.state.service` is what routes share.
    """
    service = Service(pipeline, settings or Settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.stop)

    app = FastAPI(
        title=f"Twinspire: {pipeline.name}",
        version=__version__,
        description=ABOUT.format(name=pipeline.name),
        lifespan=lifespan,
        docs_url=None,  # its page loads a script from the network; the inspector has one
        redoc_url=None,
        openapi_url=None,  # FastAPI's path writes the document again for each request
        redirect_slashes=False,  # a redirect would go to any Host that a request names
        openapi_tags=[{"name": "ask"}, {"name": "watch"}],
    )
    app.state.service = service
    app.include_router(asking(service))
    app.include_router(watching(service))
    app.include_router(router(service))

    @cache
    def document() -> bytes:
        return orjson.dumps(app.openapi())

    async def openapi_json(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    app.add_route("/openapi.json", openapi_json, include_in_schema=False)

    service.metrics.paths = frozenset(route.path for route in app.routes)  # type: ignore[attr-defined]
    http_errors.install(app, service.metrics)
    app.add_middleware(
        RequestMiddleware,
        settings=service.settings,
        metrics=service.metrics,
    )
    return app


def server_config(app: FastAPI, settings: Settings, **options: Any) -> uvicorn.Config:
    """The settings of uvicorn; `options` are further ones."""
    return uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]  # whatever makes a connection
            LimitedConnection, max_head=settings.max_head, patience=settings.client_timeout
        ),
        # Otherwise uvicorn would accept upgrades to WebSocket, which no path understands
        ws="none",
        server_header=False,
        access_log=False,  # the middleware writes one, without queries
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
        **options,
    )


def serve(pipeline: Pipeline, settings: Settings, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT. Then requests in flight are answered, and no new ones taken.

    Without a token, and on an address that only this machine reaches, requests must also name this machine
    in their Host header, unless the settings allow other names.

    Raises:
      UsageError: it cannot listen on this host and port.
    """
    logging.basicConfig(
        stream=_own_stream(),
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    log.setLevel(logging.INFO)
    if settings.hosts is None and not settings.tokens and host in LOOPBACK:
        settings = replace(settings, hosts=LOOPBACK)
    config = server_config(create_app(pipeline, settings), settings, log_config=None)
    # Before the server starts, so that a port in use is an error of the command and not a traceback.
    listening = _listen(host, port, config.backlog)
    address, bound_port = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address  # IPv6
    log.info("listening on http://%s:%s", shown, bound_port)
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listening])
    except (KeyboardInterrupt, SystemExit):
        # Uvicorn raises the signal again after a clean end.
        if not server.started:
            raise
    log.info("ended")


def _own_stream() -> TextIO:
    """The stream of the server's log. It is not standard error itself, which is suppressed while a
    version is loaded, because libraries write to it.
    """
    if console.is_terminal:  # whose last line says what is being loaded
        return _Terminal()
    return os.fdopen(os.dup(2), "w", buffering=1)


class _Terminal(TextIOBase, TextIO):
    """Writes to the terminal above its progress line."""

    def write(self, text: str) -> int:
        """Writes whole lines."""
        console.print(text, end="", soft_wrap=True)
        return len(text)


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, OverflowError) as e:
        raise UsageError(
            f"The server needs a free port on an address of this machine; {host}:{port} cannot"
            f" be used: {e}. Choose another one with --port or --host."
        ) from e
