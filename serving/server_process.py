"""The server as a process."""

import logging
import os
import socket

import uvicorn

from serving.app import create_app
from serving.http.server_settings import Settings
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

_GRACE = 30  # seconds that requests in flight get at the end
_KEEP_ALIVE = (
    # Seconds that an idle connection stays; longer than balancers keep theirs, who else would lose
    # requests
    75
)
log = logging.getLogger("twinspire.serve")


def serve(
    pipeline: Pipeline, settings: Settings, host: str, port: int, *, access_log: bool = False
) -> None:
    """Serves until SIGTERM or SIGINT; then requests in flight are answered, and no new ones taken.

    Raises:
      UsageError: it cannot listen there.
    """
    # A stream of its own: while a version is loaded, what libraries write to standard error is held
    # back.
    stream = os.fdopen(os.dup(2), "w", buffering=1)
    logging.basicConfig(
        stream=stream,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    log.setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    config = uvicorn.Config(
        create_app(pipeline, settings),
        log_config=None,
        access_log=access_log,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    listening = _listen(host, port, config.backlog)
    shown, at = listening.getsockname()[:2]
    log.info("listening on http://%s:%s", f"[{shown}]" if ":" in shown else shown, at)
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listening])
    except (KeyboardInterrupt, SystemExit):  # uvicorn raises the signal anew when it has ended well
        if not server.started:
            raise
    log.info("ended")


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, OverflowError) as e:
        raise UsageError(
            f"A server listens on a free port of an address of this machine; {host}:{port} cannot"
            f" be had: {e}. Choose another one by --port or --host."
        ) from e
