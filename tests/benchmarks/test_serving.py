"""The benchmark of the server in small: its client against a stub, its rows, its comparison."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import serving
from benchmarks.load import client, world
from benchmarks.load.costly import costly
from serving.http.bodies import BodyParser, read_object
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
        items = query.get("history", [*map(str, range(20))])
        body = json.dumps({"items": items, "scores": list(range(20, 0, -1))}).encode()
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
    requests = client.requests(world.bodies(100, 5, None, count=30))
    run = client.run(port, requests, connections=4, seconds=0.5)
    # What was in flight at the end is not counted.
    assert Stub.asked - 4 <= len(run.latencies) <= Stub.asked
    assert abs(run.errors - len(run.latencies) / 10) <= 4
    assert run.latencies.min() > 0
    assert all(len(json.loads(body)["items"]) == world.HISTORY for body in run.sample)


def test_an_answer_is_a_whole_list_best_first(monkeypatch):
    monkeypatch.setattr(serving, "K", 3)
    good = {"items": ["a", "b", "c"], "scores": [0.9, 0.9, -0.1]}
    assert serving.is_list(json.dumps(good).encode())
    for bad in ({"scores": [0.9, 0.8]}, {"items": ["a", "b", "b"]}, {"scores": [0.9, 0.8, 0.85]}):
        assert not serving.is_list(json.dumps(good | bad).encode())
    assert not serving.is_list(b'{"error": {}}')


def test_costly_requests_are_allowed(tmp_path):
    """By a server's defaults: they are the worst that one request may ask for."""
    text = world.PIPELINE.format(name="mean", pooling="mean")
    (tmp_path / "mean.toml").write_text(text)
    parser = BodyParser(RequestModel(load(tmp_path / "mean.toml")), Settings())

    def parse(body):
        return parser.recommend(read_object(body, parser.most_objects))

    kinds = costly(50_000)
    bodies = {kind: one.request.partition(b"\r\n\r\n")[2] for kind, one in kinds.items()}
    lists = {"heavy query": 1000, "explain": 100, "histories": 8000}
    for kind, one in kinds.items():
        assert len(bodies[kind]) <= Settings().max_body
        if bodies[kind] and one.status == 200:
            asked = parse(bodies[kind])
            count = lists.get(kind, Settings().max_items)
            assert len(asked.queries) * asked.options.k == count, kind
    assert len({query["_deny"] for query in parse(bodies["filters"]).queries}) == 1000
    with pytest.raises(Problem, match="at most 40,000 objects"):
        parse(bodies["wrong body"])
    address = kinds["page"].request.split()[1]
    assert 7000 < len(address) < 8192 and address.endswith(b"&k=200")


def test_the_pages_table_is_of_the_committed_figures():
    report = json.loads(serving.RESULTS.read_text())
    between = serving.PAGE.read_text().split(serving.BEGIN)[1].split(serving.END)[0]
    assert between.strip() == serving.load_table(report)
    assert "| twinspire/mean | " in between
