"""What happens to every request before and after its route: who may ask, and what is counted."""

import base64
import binascii
import hmac
import logging
import re
import time
from collections.abc import Collection, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.http_errors import SAFE_HEADERS, Problem
from serving.http.prometheus import Metrics
from twinspire_core.errors import shorten

OPEN = ("/healthz", "/readyz")
"""Paths without a token, which an orchestrator asks."""
# The last one is what curl says of any body. No type at all is allowed, too.
_JSON_TYPES = (b"/json", b"+json", b"/x-www-form-urlencoded")
_LONGEST_ADDRESS = 8192
"""Bytes of an address. A page repeats its address; a longer request can be sent as a body."""
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]*)?")
_SAFE_HEADERS = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]

log = logging.getLogger("twinspire.serve")


class RequestMiddleware:
    """Checks who asks, counts and times requests, and answers for faults of the server, which it logs
    once.

    Args:
      app: the application behind it.
      tokens: see `Settings`; likewise `hosts`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Collection[str],
        hosts: Collection[str] | None,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(name.lower() for name in hosts)
        self._metrics = metrics
        self._tokens = [token.encode() for token in tokens]

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
                await self._app(scope, receive, send_noting_status)
            else:
                self._metrics.count_error(scope, problem.type)
                await problem.response()(scope, receive, send_noting_status)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            self._metrics.count_error(scope, "internal")
            if status:  # half an answer is out, and only a broken connection can tell the client
                raise
            response = Problem("internal", "The server failed; its log says why.").response()
            await response(scope, receive, send_noting_status)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> Problem | None:
        """Why a request is refused; None if it is let in."""
        length = len(scope["raw_path"]) + len(scope["query_string"])
        if length > _LONGEST_ADDRESS:
            return Problem(
                "address_too_long",
                f"An address can have at most {_LONGEST_ADDRESS:,} bytes; found {length:,}. Send a"
                " longer request as a body.",
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
        # In constant time: how long a comparison takes must not reveal how much of a token was right.
        equal = [hmac.compare_digest(value, token) for token in self._tokens]
        return any(equal)


def _host_name(headers: Mapping[bytes, bytes]) -> str:
    """The name in a request's Host header, without brackets and port."""
    match = _HOST.fullmatch(headers.get(b"host", b""))
    return match[1].decode("latin-1").strip("[]").lower() if match else ""


def _is_of_another_origin(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a page of another origin asks. Browsers say so in headers that other programs lack."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
