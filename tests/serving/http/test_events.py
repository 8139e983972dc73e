"""`/v1/events`: bodies, what live events do to lists, and how one version takes over from another."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from serving.http import events as live_events
from serving.http import service
from serving.http.events import parse_events
from serving.http.hot_swap import LiveVersion
from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics
from serving.version import live_updates
from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.live_updates import GrownVersion
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.http.conftest import answering, shop, until
from tests.serving.version.followed_version import publish
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.errors import BadData
from twinspire_core.fusion.rank_fusion import FixedOrder

COUNTS = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
ORDER = FixedOrder(weights={"two_tower": 0.5, "popular": 0.5})
CARRIED = {FixedOrder.FILE: ORDER.dump()}
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def client(home, towers):
    """Asks a server of a version of the day before yesterday, which mixes `popular`."""
    pipeline = shop(home)
    day = str(YESTERDAY.date() - timedelta(days=1))
    circle.publish(pipeline, towers, home / "staged", day, nominators=CARRIED, counts=COUNTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_events, "_INTERVAL", 0.02)
        with answering(pipeline) as asking:
            yield asking


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


def test_events_that_do_not_count_are_reported(client):
    old = (YESTERDAY - timedelta(days=3)).isoformat()
    events = [{"item": "i01", "time": old}, {"item": "elsewhere"}, {"item": "i02", "time": None}]
    answer = client.post("/v1/events", json={"events": events}).json()
    assert (answer["taken"], answer["unknown_items"], answer["before_version"]) == (3, 1, 1)


@pytest.mark.parametrize(
    ("body", "kind", "where"),
    [
        ("{", "bad_json", None),
        ({"events": []}, "out_of_range", "events"),
        ({"events": [{"item": "i1"}, {"time": 1}]}, "missing", "events[1].item"),
        ({"events": [{"item": "i1", "place": "u"}]}, "unknown_key", "events[0].place"),
        ({"events": [{"item": "i1", "user": ["u"]}]}, "wrong_type", "events[0].user"),
        ({"events": [{"item": "i1", "user": "u" * 513}]}, "out_of_range", "events[0].user"),
        ({"event": [{"item": "i1"}]}, "missing", "events"),
        ({"events": [{"item": "i1"}], "source": "fixed_order"}, "unknown_key", "source"),
        ({"events": [{"item": "i1", "time": "soon"}]}, "wrong_type", "events[0].time"),
        ({"events": [{"item": "i1", "time": 1e300}]}, "wrong_type", "events[0].time"),
        ({"events": [{"item": "i1", "time": -(10**18)}]}, "wrong_type", "events[0].time"),
        ({"events": [{"item": ["i1"]}]}, "wrong_type", "events[0].item"),
        ({"events": [{"item": ""}]}, "out_of_range", "events[0].item"),
        ({"events": [{"item": "i1"}, 7]}, "wrong_type", "events[1]"),
        ({"events": [{"item": "i" * 513}]}, "out_of_range", "events[0].item"),
        ('{"events": [{"item": "i1", "time": NaN}]}', "bad_json", None),
        (
            {"events": [{"item": "i1"}, {"item": "i1", "time": "2999-01-01T00:00:00Z"}]},
            "out_of_range",
            "events[1].time",
        ),
    ],
)
def test_a_wrong_event_is_reported_and_nothing_counts(client, body, kind, where):
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


def test_a_body_of_too_many_objects_is_refused(client, monkeypatch):
    monkeypatch.setattr(service, "MOST", 3)
    answer = client.post("/v1/events", json={"events": [{"item": "i1"}] * 9})
    assert "at most 6 objects and lists; found 11" in answer.json()["error"]["message"]


def test_a_sender_whose_clock_is_a_day_ahead_gets_an_error_and_freezes_nothing(client):
    """Beside an event of tomorrow all that happens until then would weigh half of it or less."""
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    events = [{"item": "i07", "time": ahead}] * 200
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == 422 and "Check the clocks" in answer.text
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
    with answering(pipeline) as asking:
        answer = asking.post("/v1/events", json={"events": [{"item": "i01"}]}).json()
    assert "sources.use" in answer["notes"][0]
    assert answer["taken"] == 1


@pytest.mark.parametrize(
    "time",
    [
        *("2024-02-01T10:00:00.25", "2024-02-01T01:00:00.25Z"),
        *(1_706_749_200.25, 1_706_749_200_250),
    ],
)
def test_a_moment_may_be_written_in_several_ways(time):
    """The zone of a time without one is the pipeline's, Tokyo."""
    body = {"events": [{"item": "i01", "time": time}]}
    parsed = parse_events(body, ZoneInfo("Asia/Tokyo"), datetime.now(UTC))
    assert parsed.times.tolist() == [1_706_749_200_250_000]


def test_a_senders_clock_may_be_a_minute_ahead():
    now = datetime(2024, 2, 1, tzinfo=UTC)
    for seconds in (-1, 60, 61):
        time = (now + timedelta(seconds=seconds)).isoformat()
        body = {"events": [{"item": "i01", "time": time}]}
        with pytest.raises(Problem, match="60 s after") if seconds > 60 else nullcontext():
            parse_events(body, UTC, now)


def test_of_who_took_it_a_number_is_kept_and_no_id():
    body = {"events": [{"item": "i1", "user": user} for user in ("u", 7, "7", None)]}
    parsed = parse_events(body, UTC, datetime.now(UTC)).users.tolist()
    assert parsed[1] == parsed[2] and len(set(parsed)) == 3
    assert parsed[3] == NOBODY


def test_a_body_has_ten_thousand_events_at_the_most():
    """Asked of the reader itself: this small server takes no body that long."""
    event = {"item": "i01"}
    now = datetime.now(UTC)
    whole = parse_events({"events": [event] * 10_000}, UTC, now)
    assert len(whole.items) == len(whole.times) == 10_000
    with pytest.raises(Problem, match="1 to 10,000") as raised:
        parse_events({"events": [event] * 10_001}, UTC, now)
    assert raised.value.type == "out_of_range"


@pytest.fixture
def version(pipeline, towers, tmp_path) -> Version:
    """A version of a log that changes with the hour."""
    return publish(pipeline, towers, tmp_path / "staged", "3h")


def test_a_version_that_does_not_answer_leaves_the_live_one_its_events(
    pipeline, version, monkeypatch
):
    """Nor does it wait for events while the next one is warmed up."""
    monkeypatch.setattr(live_events, "_INTERVAL", 0.02)
    live, other = version, Version.open(pipeline)
    feed = live_events.EventFeed(1000, 0, lambda _: None, Metrics())

    def send(item: str, times: int) -> None:
        feed.take(live, Events.of([item] * times, np.full(times, live_events._now())))
        until(lambda: circle.ITEMS[live.candidate_sources.by_name["popular"].order[0]] == item)

    def fail(_) -> None:
        send("i05", 90)
        raise BadData("It does not answer.")

    feed.follow(live, lambda _: None)
    feed.start()
    with pytest.raises(BadData):
        feed.follow(other, fail)
    send("i06", 200)
    feed.stop()


def test_what_takes_over_has_the_new_items_from_its_first_answer_on(version):
    feed = live_events.EventFeed(1000, 10, lambda _: None, Metrics())
    now = np.full(50, live_events._now())
    feed.take(version, Events.of(["i08"] * 50, now))
    feed.take(version, Events.of(["new"] * 5, now[:5]))
    warmed = []

    def first_of(asked: Version) -> str:
        return asked.ids[asked.candidate_sources.by_name["popular"].order[0]]

    def warm(asked: Version) -> None:
        warmed.append((asked, first_of(asked)))
        feed.take(version, Events.of(["i09"] * 90, np.full(90, live_events._now())))

    answering = feed.follow(version, warm)
    assert warmed == [(version, "i08")], "asked for what users will be told"
    assert answering.rows(["new"]).tolist() == [12]
    assert first_of(answering) == "i09", "which was sent meanwhile"
    end = live_updates.counted_until(version)
    told = feed.take(version, Events.of(["i08"] * 3, end + np.array([-1, 0, 1])))
    assert told["before_version"] == 1


def test_a_grown_version_is_asked_once_before_it_answers(version, monkeypatch):
    """What is made when it is first asked for is there by then."""
    seen = []
    monkeypatch.setattr(
        live_events, "recommend", lambda version, *_, **__: seen.append(("asked", version))
    )
    feed = live_events.EventFeed(1000, 10, lambda one: seen.append(("grown", one)), Metrics())
    feed.take(version, Events.of(["new"] * 5, np.full(5, live_events._now())))
    answering = feed.follow(version, lambda _: None)
    assert answering is not version
    assert seen == [("asked", answering), ("grown", answering), ("grown", answering)]


def test_the_version_that_answers_grows_and_no_other_takes_its_place(pipeline, version):
    """A version that is being warmed up also grows, and waits."""
    following = LiveVersion(
        pipeline, lambda name: Version.open(pipeline, name), lambda one: one, Metrics(), poll=2
    )
    following.grow(GrownVersion(Version.open(pipeline), ["new"]))
    assert following.current is None
    following.look()
    began = following.current
    following.grow(GrownVersion(Version.open(pipeline), ["new"]))
    assert following.current is began
    grown = GrownVersion(began.version, ["new"])
    following.grow(grown)
    assert (following.current.version, following.current.since) == (grown, began.since)
    following.grow(GrownVersion(grown.published, ["new", "newer"]))
    assert following.current.version.rows(["newer"]).tolist() == [13]
    following.look()
    assert following.current.version.rows(["newer"]).tolist() == [13], "the same is live still"
