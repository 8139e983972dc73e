"""A proxy before an object store that fails as the real store and the network do, by a seeded plan."""

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("429", "503", "lost", "cut", "half", "slow")
"""What may become of a request:

429, 503: the store answers so, and does nothing.
lost: the store does it, and the connection is cut before the reply.
cut: the connection is cut in the middle of the reply.
half: the connection is cut in the middle of the request.
slow: the reply comes late.
"""
_FATAL = ("401", "403", "404", "412")
_DELAY = 0.2  # seconds
_OURS = ("connection", "content-length", "transfer-encoding", "date", "server")


class FaultyStore:
    """A store's front, and what became of the requests.

    Attributes:
      url: where it listens.
      shares: the share of requests that meets each fault; may be changed at any time.
      only: the method that meets faults; all by default.
      away_after: from how many requests on all are answered by 503; None: never.
      met: how often each fault was met.
      requests: how many came, by method.
      paths: what each asked for.
    """

    def __init__(self, upstream: str, seed: int) -> None:
        """Listens; `upstream` is the store's own URL."""
        self.shares: Mapping[str, float] = {}
        self.only = ""
        self.away_after: int | None = None
        self.met: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.paths: list[str] = []
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._finished: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._upstream = urlsplit(upstream).netloc
        front = self

        class Handler(_Handler):
            store = front

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str, path: str) -> str | None:
        """Draws what becomes of a request; None if nothing happens to it."""
        with self._lock:
            self.requests[method] += 1
            self.paths.append(urlsplit(path).path)
            drawn = self._draw.random()
            if self.away_after is not None and self.requests.total() > self.away_after:
                return "503"
            if self.only not in ("", method):
                return None
            for name, share in self.shares.items():
                drawn -= share
                if drawn < 0:
                    self.met[name] += 1
                    return name
        return None

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, sent: int
    ) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Hands a request on, of which `sent` bytes of its body; the reply if all were.

        Google's store answers each request to a finished upload as it did the last one. Its emulator knows the
        upload no more, so the reply is kept here.
        """
        if path in self._finished:
            return self._finished[path]
        with contextlib.closing(http.client.HTTPConnection(self._upstream, timeout=60)) as store:
            store.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                # Azure's signature covers the date.
                if name.lower() not in ("host", *_OURS) or name.lower() == "date":
                    store.putheader(name, value)
            store.putheader("Host", self._upstream)
            store.putheader("Content-Length", str(len(body)))
            store.endheaders(body[:sent] or None)
            if sent < len(body):
                return None
            reply = store.getresponse()
            content = reply.read()
            # Links to the content of objects, and to resumable uploads, lead through here too.
            here = self.url.removeprefix("http://")
            if reply.headers.get("Content-Type", "").startswith("application/json"):
                content = content.replace(self._upstream.encode(), here.encode())
            kept = [
                (name, value.replace(self._upstream, here))
                for name, value in reply.getheaders()
                if name.lower() not in _OURS or (method, name.lower()) == ("HEAD", "content-length")
            ]
            answer = reply.status, kept, content
            if method == "PUT" and "upload_id=" in path and reply.status == 200:
                self._finished[path] = answer
            return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FaultyStore

    def _handle(self) -> None:
        body = self._body()
        fault = self.store.fault(self.command, self.path)
        if fault in ("429", "503", *_FATAL):
            self._reply(int(fault), [], b'{"error": {"message": "by the plan of the test"}}')
            return
        if fault == "slow":
            time.sleep(_DELAY)
        sent = len(body) // 2 if fault == "half" else len(body)
        answer = self.store.ask(self.command, self.path, dict(self.headers), body, sent)
        if fault in ("lost", "half") or answer is None:
            self._cut()
            return
        self._reply(*answer, cut=fault == "cut")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(
        self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        length = len(content)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content[: length // 2] if cut else content)
        if cut:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def faulty_store(upstream: str, seed: int = 0) -> Iterator[FaultyStore]:
    """A front that hands everything on until `shares` says otherwise."""
    store = FaultyStore(upstream, seed)
    try:
        yield store
    finally:
        store.close()
