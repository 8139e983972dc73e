"""Error answers to clients: `{"error": {"type", "message", …}}`, and never a traceback."""

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.http.prometheus import Metrics
from twinspire_core.errors import shorten

JSON = "application/json"
SAFE_HEADERS = {
    "cache-control": "no-store",  # answers show what people took
    "x-content-type-options": "nosniff",
}
"""Headers of every answer."""
TYPES = {
    "bad_json": (400, "the body is not JSON, or not an object"),
    "unauthorized": (401, "the token is missing or wrong"),
    "cross_origin": (403, "the request came from a page of another origin"),
    "not_found": (404, "there is no such path"),
    "unknown_item": (404, "the item is not in the live version's catalogue"),
    "method_not_allowed": (405, "the path does not allow this method"),
    "timed_out": (408, "the body did not come in time"),
    "no_such_source": (409, "the live version does not have this source"),
    "body_too_large": (413, "the body has more bytes than the server allows"),
    "address_too_long": (414, "the address, with what comes after `?`, is too long"),
    "not_json": (415, "the Content-Type of the body is not JSON"),
    "wrong_host": (421, "the Host header does not name this server"),
    "unknown_key": (
        422,
        "a key is not an option, query feature or attribute; `did_you_mean` names the nearest one",
    ),
    "wrong_type": (422, "a value has the wrong type for its key"),
    "out_of_range": (422, "a value is too small, too large, too long, not finite or not listed"),
    "given_twice": (422, "a key is given under two names, with different values"),
    "missing": (422, "a required key is missing"),
    "headers_too_large": (431, "the request line and the headers are too large"),
    "internal": (500, "the server failed; its log says why"),
    "not_ready": (503, "no version is loaded yet; try again"),
    "overloaded": (503, "too many queries are waiting; try again"),
}
"""Status and meaning of each type."""
_LONGEST = 200  # characters of a detail, which may hold any key that a client made up
# The status that nginx uses. HTTP defines none, because nobody receives the answer
GONE = 499
"""Status under which a request is counted if its client left before the answer."""


class Problem(Exception):
    """A request that cannot be answered as it is.

    Attributes:
      type: one of `TYPES`.
      detail: further fields of the error, such as `where` and `did_you_mean`.
    """

    def __init__(self, kind: str, message: str, **detail: str | None) -> None:
        super().__init__(message)
        self.type = kind
        self.detail = {
            name: value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
            for name, value in detail.items()
            if value is not None
        }

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return TYPES[self.type][0]

    @property
    def content(self) -> bytes:
        """The body of the answer."""
        return orjson.dumps({"error": {"type": self.type, "message": str(self), **self.detail}})

    def response(self) -> Response:
        """The whole answer."""
        response = Response(self.content, self.status, media_type=JSON)
        for name, value in self._headers():
            response.headers.append(name, value)
        return response

    def _headers(self) -> list[tuple[str, str]]:
        if self.type in ("not_ready", "overloaded"):
            return [("Retry-After", "1")]
        if self.type == "unauthorized":
            # Browsers ask for a password, and send it as Basic (serving/app.py). Chromium reads only one
            # scheme of a line, so each scheme has its own line.
            basic = 'Basic realm="twinspire"'
            return [("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", basic)]
        if self.type == "timed_out":  # the rest of the body may still come
            return [("Connection", "close")]
        return []


def install(app: FastAPI, metrics: Metrics) -> None:
    """Has an application answer errors of clients in this form. All other exceptions are faults of the
    server, which serving/app.py answers.
    """

    async def problem(request: Request, error: Problem) -> Response:
        metrics.count_error(request.scope, error.type)
        return error.response()

    async def http(request: Request, error: HTTPException) -> Response:
        # Starlette raises these two, and 400 for a request that it cannot parse.
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_json")
        path = shorten(request.url.path)
        messages = {
            "not_found": f"There is no path {path}; /docs lists all paths.",
            "method_not_allowed": f"{path} does not allow {request.method}; /docs shows its method.",
        }
        metrics.count_error(request.scope, kind)
        response = Problem(kind, messages.get(kind, str(error.detail))).response()
        response.headers.update(error.headers or {})
        return response

    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)  # nobody receives it

    app.add_exception_handler(ClientDisconnect, gone)  # type: ignore[arg-type]
    app.add_exception_handler(Problem, problem)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, http)  # type: ignore[arg-type]
