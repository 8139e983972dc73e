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
        self._app, self._paths, self._metrics = app, paths, metrics
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = self.path(scope)
        try:
            if self._token is None or path in OPEN or self._allows(dict(scope["headers"])):
                await self._app(scope, receive, sending)
            else:
                self._metrics.errors.labels(path, "unauthorized").inc()
                said = (
                    "This server asks for a token: Authorization: Bearer TOKEN; browsers give it as"
                    " the password."
                )
                await Problem("unauthorized", said).response()(scope, receive, sending)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._metrics.errors.labels(path, "internal").inc()
            if status:  # half an answer is out: only a broken connection tells that it is none
                raise
            said = "The server has a fault; its log says more."
            await Problem("internal", said).response()(scope, receive, sending)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    def path(self, scope: Scope) -> str:
        """The name that a request is counted under."""
        return scope["path"] if scope["path"] in self._paths else "other"

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
        return hmac.compare_digest(value, self._token)  # takes as long whatever differs
