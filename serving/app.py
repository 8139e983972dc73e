"""The server as a whole: the application, put together from its routes, and the process that runs it."""

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from io import TextIOBase
from typing import Any, TextIO

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from serving.http import http_errors, routes
from serving.http.connection import LimitedConnection
from serving.http.middleware import RequestMiddleware
from serving.http.server_settings import LOOPBACK, Settings
from serving.http.service import Service
from serving.inspector.router import router
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console
from twinspire_core.version import __version__

_GRACE = 30  # seconds that requests in flight get when the server ends
# Seconds that an idle connection stays open. Balancers close theirs earlier; otherwise they would send
# requests into a connection that is being closed.
_KEEP_ALIVE = 75
log = logging.getLogger("twinspire.serve")
ABOUT = """
Items for users, from the live version of **{name}**. Every answer names the version that all of it comes from.

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
        redirect_slashes=False,  # a redirect would go to any Host that a request names
        openapi_tags=[{"name": "ask"}, {"name": "watch"}],
    )
    app.state.service = service
    app.include_router(routes.asking(service))
    app.include_router(routes.watching(service))
    app.include_router(router(service))

    service.metrics.paths = frozenset(route.path for route in app.routes)  # type: ignore[attr-defined]
    http_errors.install(app, service.metrics)
    app.add_middleware(
        RequestMiddleware,
        tokens=service.settings.tokens,
        hosts=service.settings.hosts,
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
        ws="none",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
        **options,
    )


class _WithoutQuery(logging.Filter):
    """Cuts the query off addresses in the access log: those of pages name users."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the line and keeps it."""
        if record.args:
            client, method, address, *rest = record.args
            path, _, _ = str(address).partition("?")
            record.args = (client, method, path, *rest)
        return True


def serve(
    pipeline: Pipeline, settings: Settings, host: str, port: int, *, access_log: bool = False
) -> None:
    """Serves until SIGTERM or SIGINT. Then requests in flight are answered, and no new ones taken.

    Without a token, on an address that only this machine reaches, requests must also call the server
    by a name of this machine, unless the settings name hosts.

    Raises:
      UsageError: it cannot listen on this host and port.
    """
    logging.basicConfig(
        stream=_own_stream(),
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    log.setLevel(logging.INFO)
    requests = logging.getLogger("uvicorn.access")
    requests.setLevel(logging.INFO)
    requests.addFilter(_WithoutQuery())
    if settings.hosts is None and not settings.tokens and host in LOOPBACK:
        settings = replace(settings, hosts=LOOPBACK)
    config = server_config(
        create_app(pipeline, settings), settings, log_config=None, access_log=access_log
    )
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
