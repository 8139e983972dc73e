"""The server as a process."""

import logging
import sys

import uvicorn

from serving.server.app import create_app
from serving.server.settings import Settings
from twinspire.pipeline import Pipeline

_GRACE = 30  # seconds that requests in flight get at the end


def serve(pipeline: Pipeline, settings: Settings, host: str, port: int, *, access_log: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; then requests in flight are answered, and no new ones taken."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("twinspire.serve").setLevel(logging.INFO)
    config = uvicorn.Config(
        create_app(pipeline, settings),
        host=host,
        port=port,
        log_config=None,
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    uvicorn.Server(config).run()
