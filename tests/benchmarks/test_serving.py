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
from benchmarks.load.costly import Costly, beside, costly
from serving.http.bodies import BodyParser
from serving.http.http_errors import Problem
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
        body = json.dumps(
            {
                "items": query.get("history", [*map(str, range(20))]),
                "scores": list(range(20, 0, -1)),
            }
        ).encode()
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
    # First each is asked once. In each round: beside both kinds; a few alone, and beside both kinds.
    beside = iter(
        [
            *([9.0], [9.0]),
            *([1.0], [], [3.0], [4.0], [], *[[2.0]] * 5),
            *([8.0], [9.0], [1.0], [5.0], [6.0], *[[2.0]] * 5),
            *([7.0], [10.0, 12.0], [2.0], [6.0], [7.0], *[[2.0]] * 5),
        ]
    )
    kinds = {"filters": Costly(b""), "lists": Costly(b"")}
    monkeypatch.setattr(serving, "costly", lambda items: kinds)
    monkeypatch.setattr(
        serving.client,
        "run",
        lambda *_, seconds, **__: client.Measured(seconds, np.array(next(beside)), 0, []),
    )
    names = ["twinspire/mean", "twinspire/attention"]
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
    # Nobody was answered in one run of the second round: it counts as long as it was.
    waited = found["twinspire/mean", "p99_beside_ms"]
    assert (waited["low"], waited["value"], waited["high"]) == (9.0, 11.98, 25.0)
    assert found["twinspire/mean", "times_alone"]["value"] == pytest.approx(11.98 / 4)
    few = [found["twinspire/mean", serving.BESIDE + kind] for kind in kinds]
    assert [(row["low"], row["value"], row["high"]) for row in few] == [(4, 5, 6), (6, 7, 25)]
    assert (few[0]["unit"], found["twinspire/mean", "p99_of_8_ms"]["value"]) == ("ms", 2)
    assert found["twinspire/attention", "times_alone"]["value"] == 0.5
    assert found["twinspire/attention", "peak_mb"]["value"] == 100


def test_costly_requests_are_allowed(tmp_path):
    """By a server's defaults: they are the worst that one request may ask for."""
    text = world.PIPELINE.format(name="mean", pooling="mean")
    (tmp_path / "mean.toml").write_text(text)
    parser = BodyParser(RequestModel(load(tmp_path / "mean.toml")), Settings())
    kinds = costly(50_000)
    bodies = {kind: one.request.partition(b"\r\n\r\n")[2] for kind, one in kinds.items()}
    lists = {"heavy query": 1000, "explain": 100, "histories": 8000}
    for kind, one in kinds.items():
        assert len(bodies[kind]) <= Settings().max_body
        if bodies[kind] and one.status == 200:
            asked = parser.recommend(bodies[kind])
            count = lists.get(kind, Settings().max_items)
            assert len(asked.queries) * asked.options.k == count, kind
    assert len({query["_deny"] for query in parser.recommend(bodies["filters"]).queries}) == 1000
    with pytest.raises(Problem, match="at most 40,000 objects"):
        parser.recommend(bodies["wrong body"])
    address = kinds["page"].request.split()[1]
    assert 7000 < len(address) < 8192 and address.endswith(b"&k=200")


def test_who_asks_beside_others_asks_again_and_leaves(port):
    Stub.asked = -999  # all are answered
    one = client.requests(world.bodies(100, 5, None, count=1))[0]
    with beside(port, Costly(one)):
        while Stub.asked < -993:
            time.sleep(0.01)
    with pytest.raises(ConnectionError, match="503"), beside(port, Costly(one)):
        while Stub.asked < -990:
            time.sleep(0.01)
        time.sleep(0.3)  # it is answered some moment after it is counted
    Stub.asked = -999
    with beside(port, Costly(one, stays=0.001)):
        while Stub.asked < -993:
            time.sleep(0.01)


def test_the_pages_table_is_of_the_committed_figures():
    found = json.loads(serving.RESULTS.read_text())
    between = serving.PAGE.read_text().split(serving.BEGIN)[1].split(serving.END)[0]
    assert between.strip() == serving.beside_table(found)
    assert "| twinspire/mean | " in between
