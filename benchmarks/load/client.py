"""A cheap client: keep-alive connections in a closed loop, each asking again as soon as it is
answered.

One thread, raw sockets and a selector: it shares the cores with the server, and takes about a tenth
of them.
"""

import selectors
import socket
import threading
import time
from typing import NamedTuple

import numpy as np

SAMPLED = 50  # every so-many-th answer is kept


class Measured(NamedTuple):
    """What a run found.

    Attributes:
      seconds: of the run.
      latencies: of each answer, in ms.
      errors: answers that are no 200.
      sample: bodies of some answers.
    """

    seconds: float
    latencies: np.ndarray
    errors: int
    sample: list[bytes]


class _Connection:
    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.wanted = 0
        self.sent = 0.0

    def ask(self, request: bytes) -> None:
        self.received.clear()
        self.wanted = 0
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def answered(self) -> bool:
        """Reads; whether the answer is complete."""
        part = self.socket.recv(1 << 18)
        if not part:
            raise ConnectionError("the server closed a connection")
        self.received += part
        if not self.wanted:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return False
            at = self.received.find(b"content-length: ") + 16
            self.wanted = end + 4 + int(self.received[at : self.received.index(b"\r", at)])
        return len(self.received) >= self.wanted


def requests(bodies: list[bytes], path: str = "/v1/recommend") -> list[bytes]:
    """Whole HTTP requests."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        " application/json\r\nContent-Length: "
    )
    return [head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies]


def run(port: int, asked: list[bytes], *, connections: int, seconds: float) -> Measured:
    """Asks for so many seconds."""
    selector = selectors.DefaultSelector()
    number = 0
    for _ in range(connections):
        one = _Connection(("127.0.0.1", port))
        selector.register(one.socket, selectors.EVENT_READ, one)
        one.ask(asked[number % len(asked)])
        number += 1
    latencies = list[float]()
    errors = 0
    sample = list[bytes]()
    begin = time.perf_counter()
    end = begin + seconds
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(1):
            one = key.data
            if not one.answered():
                continue
            latencies.append(time.perf_counter() - one.sent)
            if not one.received.startswith(b"HTTP/1.1 200"):
                errors += 1
            if number % SAMPLED == 0:
                sample.append(bytes(one.received[one.received.index(b"\r\n\r\n") + 4 :]))
            one.ask(asked[number % len(asked)])
            number += 1
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    return Measured(now - begin, 1000 * np.array(latencies), errors, sample)


def leave_until(port: int, request: bytes, end: threading.Event, stays: float) -> None:
    """Asks the same again and again, over a new connection each time, and leaves before the answer."""
    while not end.wait(0):
        one = _Connection(("127.0.0.1", port))
        with one.socket:
            one.ask(request)
            time.sleep(stays)


def ask_until(port: int, request: bytes, end: threading.Event, status: int = 200) -> None:
    """Asks the same over one connection, again and again. The last answer is waited for, so that
    nothing is left to the server when it returns.

    Raises:
      ConnectionError: an answer has another status.
    """
    one = _Connection(("127.0.0.1", port))
    with one.socket:
        while not end.is_set():
            one.ask(request)
            while not one.answered():
                pass
            if not one.received.startswith(b"HTTP/1.1 %d" % status):
                raise ConnectionError(bytes(one.received[:500]))
