import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest
from fastapi import Response

from serving.app import create_app
from serving.http.server_settings import Settings
from tests.serving.http.conftest import running, shop

PATIENCE = 0.5
MOST = 65_536
POST = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[httpx.Client]:
    """A server without a version, which needs none to read requests, with a token."""
    settings = Settings(tokens=("secret",), poll=60, client_timeout=PATIENCE)
    with running(create_app(shop(tmp_path_factory.mktemp("limited")), settings)) as asking:
        yield asking


@contextmanager
def connection(server: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((server.base_url.host, server.base_url.port), 5) as one:
        yield one


def until_closed(one: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    parts = []
    try:
        while part := one.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def send(one: socket.socket, content: bytes) -> None:
    with suppress(OSError):  # the server has hung up
        one.sendall(content)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * MOST,
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * (MOST // 6),
        b"GET /" + b"y" * MOST,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"y" * MOST,
    ],
)
def test_headers_are_cut_off_before_anybody_looks_at_the_token(server, head):
    with connection(server) as one:
        send(one, head)
        said = until_closed(one)
    assert said.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b'{"error":{"type":"headers_too_large"' in said
    assert b"nosniff" in said


def test_headers_below_the_limit_are_taken(server):
    padding = {f"x-{n}": "y" * 5900 for n in range(10)}
    assert server.get("/healthz", headers=padding).status_code == 200
    assert server.get("/healthz", headers=padding).status_code == 200, "on the same connection"


def test_megabytes_of_headers_hold_nobody_up(server):
    def flood() -> None:
        with connection(server) as one:
            send(one, b"GET / HTTP/1.1\r\nX: " + b"y" * 60_000_000)

    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(flood) for _ in range(4)]
        started = time.monotonic()
        assert server.get("/healthz").status_code == 200
        assert time.monotonic() - started < 1
        for one in floods:
            one.result()


@pytest.mark.parametrize("beside", [b"1;" + b"y" * MOST, b"0\r\nX: " + b"y" * MOST])
def test_trailers_and_data_outside_chunks_close_the_connection(server, beside):
    with connection(server) as one:
        head = POST + b"Authorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n"
        send(one, head + b"2\r\n{}\r\n" + beside)
        one.settimeout(PATIENCE / 2)
        until_closed(one)


def test_bodies_are_no_headers(server):
    """A body of any size in any pieces is counted as none."""
    body = b'{"query": {"user": "' + b"y" * 900_000 + b'"}}'
    given = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
    pieces = (body[n : n + 50_000] for n in range(0, len(body), 50_000))
    for content in (body, pieces):
        response = server.post("/v1/recommend", content=content, headers=given)
        assert response.json()["error"]["type"] == "not_ready"


def test_requests_on_end_are_answered_one_by_one(server):
    """Pipelined, and more of them than one request may have bytes."""
    count = 3000
    with connection(server) as one:
        last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(
                send, one, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * count + last
            )
            assert until_closed(one).count(b"HTTP/1.1 200 OK") == count + 1
            asking.result()


@pytest.mark.parametrize("begun", [b"", b"GET /heal", POST, b"\r\n"])
def test_who_sends_no_request_is_hung_up_on(server, begun):
    with connection(server) as one:
        one.sendall(begun)
        started = time.monotonic()
        assert until_closed(one) == b""
        assert time.monotonic() - started < PATIENCE + 1


def test_a_byte_now_and_then_buys_no_time(server):
    with connection(server) as one:
        started = time.monotonic()
        one.settimeout(0.1)
        for byte in POST * 3:
            send(one, bytes([byte]))
            try:
                if not one.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
        assert time.monotonic() - started < PATIENCE + 1


def test_who_has_been_answered_may_wait(server):
    with connection(server) as one:
        for _ in range(2):
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(2 * PATIENCE)


def test_a_missing_body_is_answered_with_an_error(server):
    with connection(server) as one:
        one.sendall(POST + b"Authorization: Bearer secret\r\nContent-Length: 10\r\n\r\n{")
        started = time.monotonic()
        said = until_closed(one)
        assert time.monotonic() - started < PATIENCE + 1
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"type":"timed_out"' in said


def test_who_takes_no_answer_is_hung_up_on(server):
    """Answers that wait in memory for a client that reads none."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n"
    with connection(server) as one:
        one.settimeout(10)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                one.sendall(ask * 100)


LARGE = b"x" * 12_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Iterator[httpx.Client]:
    """A server with an answer that no buffer of the system holds."""
    app = create_app(shop(tmp_path_factory.mktemp("large")), Settings(client_timeout=PATIENCE))
    app.add_api_route("/large", lambda: Response(LARGE), response_class=Response)
    with running(app) as asking:
        yield asking


def take(server: httpx.Client, pauses: list[float], at_once: int) -> int:
    """Takes a part of an answer and waits, again and again, then takes the rest; how much there was."""
    taken = 0
    with connection(server) as one:
        one.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for pause in pauses:
            taken += len(one.recv(at_once))
            time.sleep(pause)
        return taken + len(until_closed(one))


def test_who_takes_an_answer_slowly_and_steadily_gets_all_of_it(large):
    """In four times as long as somebody may take nothing."""
    assert take(large, [4 * PATIENCE / 60] * 60, len(LARGE) // 60) > len(LARGE)


def test_who_takes_a_byte_now_and_then_does_not(large):
    assert take(large, [PATIENCE / 5] * 15, 1) < len(LARGE)
