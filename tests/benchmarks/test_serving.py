"""The benchmark of the server in small: its client against a stub, its rows, its comparison."""

import json
import threading
import time
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from benchmarks import serving
from benchmarks.load import client, servers, world
from benchmarks.load.costly import beside, costly
from serving.http.bodies import BodyParser
from serving.http.server_settings import Settings
from serving.requests.request_model import RequestModel
from twinspire_core.config.pipeline import load


class Stub(BaseHTTPRequestHandler):
    """Every tenth answer is a 503; answers come in two pieces."""

    protocol_version = "HTTP/1.1"
    asked, lock = 0, threading.Lock()

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))["query"]
        with Stub.lock:
            Stub.asked += 1
            status = 503 if Stub.asked % 10 == 0 else 200
        body = json.dumps({"items": query["history"], "scores": list(range(20, 0, -1))}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:7])
        self.wfile.flush()
        self.wfile.write(body[7:])

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_client_counts_what_it_gets(port, monkeypatch):
    monkeypatch.setattr(client, "SAMPLED", 5)
    Stub.asked = 0
    found = client.run(
        port, client.requests(world.bodies(100, 5, None, count=30)), connections=4, seconds=0.5
    )
    # What was in flight at the end is not counted.
    assert Stub.asked - 4 <= len(found.latencies) <= Stub.asked
    assert abs(found.errors - len(found.latencies) / 10) <= 4
    assert found.latencies.min() > 0
    assert all(len(json.loads(body)["items"]) == world.HISTORY for body in found.sample)
    histories = [
        json.loads(body)["query"]["history"] for body in world.bodies(100, 5, None, count=3)
    ]
    answered = client.each(port, client.requests(world.bodies(100, 5, None, count=3)))
    assert [json.loads(body)["items"] for body in answered] == histories


def test_an_answer_is_a_whole_list_best_first(monkeypatch):
    monkeypatch.setattr(serving, "K", 3)
    good = {"items": ["a", "b", "c"], "scores": [0.9, 0.9, -0.1]}
    assert serving.is_list(json.dumps(good).encode())
    for bad in ({"scores": [0.9, 0.8]}, {"items": ["a", "b", "b"]}, {"scores": [0.9, 0.8, 0.85]}):
        assert not serving.is_list(json.dumps(good | bad).encode())
    assert not serving.is_list(b'{"error": {}}')


def test_the_made_up_shop_is_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        world.lay_out(tmp_path / name, items=40)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.parquet"))
    assert len(files) == 2 * world.DAYS
    assert all(
        (tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files
    )


def test_rounds_become_rows(monkeypatch):
    @contextmanager
    def started(name, command):
        yield servers.Server(name, 0, None)

    figures = iter([3.0, 10.0, 1.0, 30.0, 2.0, 20.0])  # they take turns
    monkeypatch.setattr(serving.servers, "serving", started)
    monkeypatch.setattr(serving.servers, "peak_mb", lambda server: 100.0)
    monkeypatch.setattr(
        serving, "contenders", lambda size, names, folder: {name: ([], None) for name in names}
    )
    monkeypatch.setattr(serving, "measure", lambda *_: {"requests/s": next(figures), "p99_ms": 4.0})
    monkeypatch.setattr(serving, "beside", lambda *_: nullcontext())
    beside = iter([[7.0], [10.0, 12.0], [1.0], [], [8.0], [9.0]] * 2)
    monkeypatch.setattr(serving, "costly", lambda items: {"filters": b"", "lists": b""})
    monkeypatch.setattr(
        serving.client,
        "run",
        lambda *_, seconds, **__: client.Measured(seconds, np.array(next(beside)), 0, []),
    )
    monkeypatch.setattr(
        serving,
        "lists",
        lambda server, asked: [{"a", "b"} if "mean" in server.name else {"b", "c"}],
    )
    names = ["twinspire/mean", "tfrs/brute_force"]
    rows = serving.compared(serving.Size(10, 3, 0.1), names, Path("."))
    found = {(row["contender"], row["metric"]): row for row in rows}
    middle = {name: found[name, "requests/s"] for name in names}
    assert [middle[name][of] for name in names for of in ("low", "value", "high")] == [
        1,
        2,
        3,
        10,
        20,
        30,
    ]
    assert (middle[names[0]]["case"], middle[names[0]]["unit"]) == ("10 items", "1/s")
    assert found["twinspire/mean", "overlap@50"]["value"] == 0.5
    # Nobody was answered in one run of the second round: it counts as long as it was.
    waited = found["twinspire/mean", "p99_beside_ms"]
    assert (waited["low"], waited["value"], waited["high"]) == (9.0, 11.98, 25.0)
    assert found["twinspire/mean", "times_alone"]["value"] == pytest.approx(11.98 / 4)
    assert ("tfrs/brute_force", "times_alone") not in found
    assert ("tfrs/brute_force", "peak_mb") in found


def test_costly_requests_are_allowed(tmp_path):
    """By a server's defaults: they are the worst that one request may ask for."""
    text = world.PIPELINE.format(name="mean", pooling="mean")
    (tmp_path / "mean.toml").write_text(text)
    parser = BodyParser(RequestModel(load(tmp_path / "mean.toml")), Settings())
    for kind, request in costly(50_000).items():
        body = request.partition(b"\r\n\r\n")[2]
        asked = parser.recommend(body)
        assert len(body) <= Settings().max_body
        assert len(asked.queries) * asked.options.k in (8000, Settings().max_items), kind
    filters = costly(50_000)["filters"].partition(b"\r\n\r\n")[2]
    assert len({query["_deny"] for query in parser.recommend(filters).queries}) == 1000


def test_who_asks_beside_others_asks_again_and_leaves(port):
    Stub.asked = -999  # all are answered
    one = client.requests(world.bodies(100, 5, None, count=1))[0]
    with beside(port, one):
        while Stub.asked < -993:
            time.sleep(0.01)
    with pytest.raises(ConnectionError, match="503"), beside(port, one):
        while Stub.asked < -990:
            time.sleep(0.01)
        time.sleep(0.3)  # it is answered some moment after it is counted


def test_the_pages_table_is_of_the_committed_figures():
    found = json.loads(serving.RESULTS.read_text())
    between = serving.PAGE.read_text().split(serving.BEGIN)[1].split(serving.END)[0]
    assert between.strip() == serving.beside_table(found)
    assert "| twinspire/mean | " in between
