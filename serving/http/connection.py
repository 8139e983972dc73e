"""Connections with limits for headers and slow clients, which uvicorn's parser does not have."""

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from serving.http.http_errors import JSON, SAFE_HEADERS, Problem

_SLOWEST = 1 << 15  # bytes of an answer that a client must take in a second
_PIECE = 4096  # bytes that are parsed at a time


class LimitedConnection(HttpToolsProtocol):
    """One connection of a client.

    Args:
      max_head: the most bytes of a request besides its body: first line, headers, sizes of chunks,
        trailers. The parser itself would keep a header of any length.
      patience: seconds that a client may take to send the headers of a request, and to take the rest of
        an answer when the server ends. The speed at which it takes an answer is checked as often.
      options: further arguments of uvicorn's protocol.
    """

    def __init__(self, *, max_head: int, patience: float, **options: Any) -> None:
        super().__init__(**options)
        self._max_head = max_head
        self._patience = patience
        self._head = 0  # bytes of the present request besides its body
        self._in_head = False
        self._answered: RequestResponseCycle | None = None  # the request that is being answered
        self._no_request: TimerHandle | None = None  # runs while a request is awaited
        self._not_taken: TimerHandle | None = None  # runs while the client has bytes to take

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        for timer in (self._no_request, self._not_taken):
            if timer is not None:
                timer.cancel()
        # Uvicorn tells only the request that was read last. If a client has sent several at once, an
        # earlier one is being answered.
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The client has sent something: any part of one request, or of several."""
        # In short pieces, because the one in which a request begins counts as its head from end to end.
        for begin in range(0, len(data), _PIECE):
            if self.transport.is_closing():
                break
            piece = data[begin : begin + _PIECE]
            self._head += len(piece)
            super().data_received(piece)
            if self._head >= self._max_head:
                self._refuse_head()
        self._await_request()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head = _PIECE
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Its headers have ended."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._head -= len(body)
        super().on_body(body)

    def pause_writing(self) -> None:
        """The client does not take the answer as fast as it is sent."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """The client has taken the answer that waited."""
        super().resume_writing()
        if self._not_taken is not None:
            self._not_taken.cancel()

    def _await_taking(self) -> None:
        """Starts the timer. When it ends, the client must have taken some of the waiting answer."""
        waiting = self.transport.get_write_buffer_size()
        self._not_taken = self.loop.call_later(self._patience, self._check_taken, waiting)

    def _check_taken(self, waited: int) -> None:
        taken = waited - self.transport.get_write_buffer_size()
        if taken < _SLOWEST * self._patience:
            self.transport.abort()
        else:
            self._await_taking()

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        if self.transport.is_closing():  # as soon as the client has taken its answer, or time is up
            self.loop.call_later(self._patience, self.transport.abort)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _await_request(self) -> None:
        """Starts the timer for a request where one is awaited: none has come yet, the last one is
        answered, or headers have not ended. Stops it where none is.
        """
        owed = self._in_head or self.cycle is None or self.cycle.response_complete
        if owed and self._no_request is None and not self.transport.is_closing():
            self._no_request = self.loop.call_later(self._patience, self.transport.close)
        elif not owed and self._no_request is not None:
            self._no_request.cancel()
            self._no_request = None

    def _refuse_head(self) -> None:
        """Says that the head is too large, unless an answer is being sent, and closes."""
        if self._in_head or self.cycle is None:
            problem = Problem(
                "headers_too_large",
                f"A request must have less than {self._max_head:,} bytes before its body. Send fewer or"
                " shorter headers.",
            )
            headers = {
                "content-type": JSON,
                "content-length": str(len(problem.content)),
                "connection": "close",
                **SAFE_HEADERS,
            }
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            status_line = STATUS_LINE[problem.status]
            self.transport.write(status_line + lines.encode() + b"\r\n" + problem.content)
        self.transport.close()
