"""How many requests a token may send."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from typer.testing import CliRunner

from serving.app import create_app
from serving.http.rate_limit import RateLimit
from serving.http.server_settings import Settings
from tests.serving.http.conftest import running, shop
from twinspire.cli.main import app


@pytest.fixture
def asking(tmp_path):
    """Asks a server of two tokens, each of which may send one request in five seconds, two at once."""
    settings = Settings(tokens=("first", "second"), rate=0.2, poll=60)
    with running(create_app(shop(tmp_path), settings)) as client:
        yield lambda path, token, method="GET": client.request(
            method, path, headers={"Authorization": f"Bearer {token}"}
        )


def test_a_token_that_sends_more_is_turned_away_and_the_others_are_not(asking):
    statuses = [asking("/v1/version", "first").status_code for _ in range(2)]
    assert statuses == [200, 200]
    refused = asking("/v1/version", "first")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    error = refused.json()["error"]
    assert error["type"] == "too_many_requests"
    assert "0.2 requests a second" in error["message"] and "first" not in error["message"]
    assert asking("/v1/recommend", "first", "POST").status_code == 429, "all paths together"
    assert asking("/v1/version", "second").status_code == 200
    assert asking("/v1/version", "third").status_code == 401, "nobody's requests are counted"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert [asking(path, "first").status_code for _ in range(5)] != [429] * 5
    counted = asking("/metrics", "first").text
    assert 'twinspire_errors_total{path="/v1/version",type="too_many_requests"} 1.0' in counted


def test_after_the_time_that_it_is_told_it_may_go_on(tmp_path):
    settings = Settings(rate=0.9, poll=60)  # nine at once, by all who have no token
    with (
        running(create_app(shop(tmp_path), settings)) as client,
        ThreadPoolExecutor(20) as many,
    ):
        answers = list(many.map(lambda _: client.get("/v1/version"), range(20)))
        statuses = [answer.status_code for answer in answers]
        assert 9 <= statuses.count(200) <= 12 and statuses.count(429) >= 8
        wait = [int(a.headers["retry-after"]) for a in answers if a.status_code == 429]
        time.sleep(max(wait))
        assert client.get("/v1/version").status_code == 200


def test_the_command_reads_a_token_of_each_line_and_a_rate(tmp_path, monkeypatch):
    shop(tmp_path)
    (tmp_path / "tokens").write_text("first\n\n  second \n")
    given = []
    monkeypatch.setattr("serving.app.serve", lambda _, settings, *__, **___: given.append(settings))
    options = ["--token-file", str(tmp_path / "tokens"), "--max-rate", "2.5"]
    done = CliRunner().invoke(app, ["serve", str(tmp_path / "circle.toml"), *options])
    assert done.exit_code == 0, done.output
    assert (given[0].tokens, given[0].rate) == (("first", "second"), 2.5)
    assert "first" not in repr(given[0])


def test_without_a_rate_nobody_is_turned_away(client):
    assert {client.get("/v1/version").status_code for _ in range(50)} == {200}


@pytest.mark.parametrize(("rate", "burst"), [(0.3, 10), (5, 10), (100, 10), (0.01, 10)])
def test_no_more_than_the_rate_and_one_burst_in_any_time(rate, burst):
    """A client that never stops asking, eight times as often as it may."""
    times = (n / (8 * rate) for n in count())
    limit = RateLimit(rate, burst, clock=lambda: next(times))
    asked = 2000
    let_in = [n / (8 * rate) for n in range(asked) if limit.wait(b"x") == 0]
    most = max(1, rate * burst)
    assert len(let_in) == pytest.approx(most + asked / 8, rel=0.02, abs=1.5)
    for n, start in enumerate(let_in):
        within = [t for t in let_in[n:] if t <= start + 7 / rate]
        assert len(within) <= most + 8


def test_the_wait_that_is_told_is_enough_and_not_much_more():
    now = [0.0]
    limit = RateLimit(2, 10, clock=lambda: now[0])
    assert [limit.wait(b"x") for _ in range(20)] == [0] * 20
    for _ in range(3):  # who asks too often is not shut out for longer
        assert limit.wait(b"x") == 1
    now[0] = 0.49
    assert limit.wait(b"x") == 1
    now[0] = 0.5
    assert limit.wait(b"x") == 0
    slow = RateLimit(0.01, 10, clock=lambda: now[0])
    assert [slow.wait(b"x"), slow.wait(b"x"), slow.wait(b"y")] == [0, 100, 0]
