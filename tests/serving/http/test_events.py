"""`/v1/events`: what users took a moment ago moves the lists of the moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.app import create_app
from serving.http import event_feed
from serving.version.event_buffer import EventBuffer
from tests.serving import conftest as circle
from tests.serving.http.conftest import FAST, ready, running, shop, until
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.fusion.rank_fusion import FixedOrder

COUNTS = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
ORDER = FixedOrder(weights={"two_tower": 0.5, "popular": 0.5})
CARRIED = {FixedOrder.FILE: ORDER.dump()}
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("popular")


@pytest.fixture(scope="module")
def client(home, towers):
    """Asks a server of a version of the day before yesterday, which mixes `popular`."""
    pipeline = shop(home)
    day = str(YESTERDAY.date() - timedelta(days=1))
    circle.publish(pipeline, towers, home / "staged", day, nominators=CARRIED, counts=COUNTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_feed, "_INTERVAL", 0.02)
        with running(create_app(pipeline, FAST)) as asking:
            yield ready(asking)


def first(client) -> str:
    said = client.post("/v1/recommend", json={"query": {}, "k": 1, "source": "popular"})
    return said.json()["items"][0]


def test_what_is_taken_now_is_listed_first(client):
    answer = client.post("/v1/events", json={"events": [{"item": "i08"}] * 40})
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"version": ""} == {
        "version": "",
        "taken": 40,
        "unknown_items": 0,
        "before_version": 0,
    }
    until(lambda: first(client) == "i08")
    metrics = client.get("/metrics").text
    assert "twinspire_events_total 40.0" in metrics
    assert "twinspire_events_of_users_total 0.0" in metrics
    newest = next(x for x in metrics.splitlines() if x.startswith("twinspire_newest_event_seconds"))
    assert abs(float(newest.split()[1]) - datetime.now(UTC).timestamp()) < 60


def test_how_many_events_say_who_took_the_item_is_counted(client):
    events = [{"item": "i01", "user": "u7"}, {"item": "i01", "user": 7}, {"item": "i01"}]
    client.post("/v1/events", json={"events": [*events, {"item": "i01", "user": ""}]})
    assert "twinspire_events_of_users_total 2.0" in client.get("/metrics").text


def test_what_does_not_count_is_told(client):
    old = (YESTERDAY - timedelta(days=3)).isoformat()
    events = [{"item": "i01", "time": old}, {"item": "elsewhere"}, {"item": "i02", "time": None}]
    answer = client.post("/v1/events", json={"events": events}).json()
    assert (answer["taken"], answer["unknown_items"], answer["before_version"]) == (3, 1, 1)


@pytest.mark.parametrize(
    ("body", "kind", "where"),
    [
        ("{", "bad_json", None),
        ("[]", "bad_json", None),
        ({"events": []}, "out_of_range", "events"),
        ({"events": [{"item": "i1"}, {"time": 1}]}, "missing", "events[1].item"),
        ({"events": [{"item": "i1", "place": "u"}]}, "unknown_key", "events[0].place"),
        ({"events": [{"item": "i1", "user": ["u"]}]}, "wrong_type", "events[0].user"),
        ({"events": [{"item": "i1", "user": "u" * 513}]}, "out_of_range", "events[0].user"),
        ('{"events": [{"item": "i1", "user": "u", "user": "v"}]}', "given_twice", "user"),
        ({"event": [{"item": "i1"}]}, "missing", "events"),
        ({"events": [{"item": "i1"}], "source": "fixed_order"}, "unknown_key", "source"),
        ({"events": [{"item": "i1", "time": "soon"}]}, "wrong_type", "events[0].time"),
        ({"events": [{"item": "i1", "time": 1e300}]}, "wrong_type", "events[0].time"),
        ({"events": [{"item": "i1", "time": -(10**18)}]}, "wrong_type", "events[0].time"),
        ({"events": [{"item": ["i1"]}]}, "wrong_type", "events[0].item"),
        ({"events": [{"item": ""}]}, "out_of_range", "events[0].item"),
        ({"events": None}, "wrong_type", "events"),
        ({"events": [{"item": "i1"}, 7]}, "wrong_type", "events[1]"),
        ({"events": [{"item": "i" * 513}]}, "out_of_range", "events[0].item"),
        ('{"events": [{"item": "i1"}], "events": [{"item": "i2"}]}', "given_twice", "events"),
        ('{"events": [{"item": "i1", "item": "i2"}]}', "given_twice", "item"),
        ('{"events": [{"item": "i1", "item": "a\\u003ab"}]}', "given_twice", "item"),
        ('{"events": [{"item": "i1", "time": NaN}]}', "bad_json", None),
        (
            {"events": [{"item": "i1"}, {"item": "i1", "time": "2999-01-01T00:00:00Z"}]},
            "out_of_range",
            "events[1].time",
        ),
    ],
)
def test_what_is_wrong_is_told_and_nothing_counts(client, body, kind, where):
    before = client.get("/metrics").text.split("twinspire_events_total ")[1].split()[0]
    content = {"content": body} if isinstance(body, str) else {"json": body}
    answer = client.post("/v1/events", headers={"content-type": "application/json"}, **content)
    error = answer.json()["error"]
    assert (answer.status_code // 100, error["type"], error.get("where")) == (4, kind, where), error
    assert error["message"].endswith(".") and "pydantic" not in error["message"]
    if kind == "wrong_type":
        place = (where or "A body").split(".")[-1]
        assert error["message"].startswith(place), "it names what is of another type"
    after = client.get("/metrics").text.split("twinspire_events_total ")[1].split()[0]
    assert after == before


def test_a_sender_whose_clock_is_a_day_ahead_is_told_and_freezes_nothing(client):
    """Beside an event of tomorrow all that happens until then would weigh half of it or less."""
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    events = [{"item": "i07", "time": ahead}] * 200
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == 422 and "one of the clocks is wrong" in answer.text
    errors = 'twinspire_errors_total{path="/v1/events",type="out_of_range"}'
    assert errors in client.get("/metrics").text
    client.post("/v1/events", json={"events": [{"item": "i05"}] * 80})
    until(lambda: first(client) == "i05")


def test_a_version_that_takes_over_knows_what_was_sent(client, home, towers):
    client.post("/v1/events", json={"events": [{"item": "i09"}] * 200})
    until(lambda: first(client) == "i09")
    old = client.get("/v1/version").json()["version"]
    pipeline = shop(home)
    day = str(YESTERDAY.date() - timedelta(days=1))
    titles = [f"Other {n}" for n in range(12)]
    new = circle.publish(
        pipeline, towers, home / "again", day, nominators=CARRIED, counts=COUNTS, titles=titles
    )
    assert new != old
    seen = set()

    def swapped() -> bool:
        seen.add(first(client))
        return client.get("/v1/version").json()["version"] == new

    until(swapped)
    assert seen == {"i09"}, "not for a moment what it was published with"


def test_a_fault_leaves_lists_as_they_are_until_the_next_update(client, monkeypatch, caplog):
    """It is counted each time, and logged once: an update comes each second."""
    real = EventBuffer.after

    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(EventBuffer, "after", fail)
    for _ in range(4):
        answer = client.post("/v1/events", json={"events": [{"item": "i03"}] * 500})
        assert answer.status_code == 200
    failures = "\ntwinspire_event_failures_total "
    until(lambda: float(client.get("/metrics").text.split(failures)[1].split()[0]) >= 3)
    assert [record.exc_info[0] for record in caplog.records] == [MemoryError]
    assert first(client) != "i03"
    monkeypatch.setattr(EventBuffer, "after", real)
    until(lambda: first(client) == "i03")
    monkeypatch.setattr(EventBuffer, "after", fail)
    until(lambda: len(caplog.records) == 2)


def test_a_version_without_the_source_says_so(tmp_path, towers):
    pipeline = shop(tmp_path)
    circle.publish(pipeline, towers, tmp_path / "staged", nominators={})
    with running(create_app(pipeline, FAST)) as asking:
        answer = ready(asking).post("/v1/events", json={"events": [{"item": "i01"}]}).json()
    assert "sources.use" in answer["notes"][0]
    assert answer["taken"] == 1


def test_a_token_is_needed_where_there_is_one(home):
    with running(create_app(shop(home), replace(FAST, tokens=("secret",)))) as asking:
        body = {"events": [{"item": "i01"}]}
        assert asking.post("/v1/events", json=body).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        until(lambda: asking.get("/readyz", headers=headers).status_code == 200)
        assert asking.post("/v1/events", json=body, headers=headers).status_code == 200
