"""What happens to every request before and after its route: who may ask, and what is counted."""

import base64
import binascii
import hmac
import logging
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics

OPEN = ("/healthz", "/readyz")
"""Paths that need no token: an orchestrator asks them."""
_UNAUTHORIZED = (
    "This server asks for a token: Authorization: Bearer TOKEN; browsers give it as the password."
)

log = logging.getLogger("twinspire.serve")


class RequestMiddleware:
    """Checks the token, measures, and answers for faults of the server: logged once, the connection
    kept.

    Args:
      app: what comes next.
      token: what must be carried; None lets everybody in.
      paths: those that are counted by their names; all others are `other`.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, paths: frozenset[str], metrics: Metrics
    ) -> None:
        self._app = app
        self._paths = paths
        self._metrics = metrics
        self._token = None if token is None else token.encode()

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
            await send(message)

        path = self.path(scope)
        try:
            if self._token is None or path in OPEN or self._allows(dict(scope["headers"])):
                await self._app(scope, receive, send_noting_status)
            else:
                self._metrics.errors.labels(path, "unauthorized").inc()
                response = Problem("unauthorized", _UNAUTHORIZED).response()
                await response(scope, receive, send_noting_status)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._metrics.errors.labels(path, "internal").inc()
            if status:  # half an answer is out: only a broken connection tells that it is none
                raise
            response = Problem("internal", "The server has a fault; its log says more.").response()
            await response(scope, receive, send_noting_status)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    def path(self, scope: Scope) -> str:
        """The name that a request is counted under. Any path can be asked for: one name for all
        unknown ones keeps the number of time series small.
        """
        path: str = scope["path"]
        return path if path in self._paths else "other"

    def _allows(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        value = value.strip()
        if scheme.lower() == b"basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        assert self._token is not None
        # It takes as long whatever differs: the time must not tell how much of a token was right.
        return hmac.compare_digest(value, self._token)
