"""Bodies of `/v1/events`, by the reader itself: moments, who took what, how much there may be."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest

from serving.http import event_bodies
from serving.http.http_errors import Problem
from serving.version.event_buffer import NOBODY


@pytest.mark.parametrize(
    "time", ["2024-02-01T10:00:00", "2024-02-01T01:00:00Z", 1_706_749_200, 1_706_749_200_000]
)
def test_a_moment_may_be_written_in_several_ways(time):
    """The zone of a time without one is the pipeline's, Tokyo."""
    body = orjson.dumps({"events": [{"item": "i01", "time": time}]})
    found = event_bodies.parse(body, ZoneInfo("Asia/Tokyo"), datetime.now(UTC))
    assert found.times.tolist() == [1_706_749_200 * 1_000_000]


def test_a_senders_clock_may_be_a_minute_ahead():
    now = datetime(2024, 2, 1, tzinfo=UTC)
    for seconds in (-1, 60, 61):
        time = (now + timedelta(seconds=seconds)).isoformat()
        body = orjson.dumps({"events": [{"item": "i01", "time": time}]})
        with pytest.raises(Problem, match="60 s after") if seconds > 60 else nullcontext():
            event_bodies.parse(body, UTC, now)


@pytest.mark.parametrize("time", ["2024-02-01T01:00:00.25Z", 1_706_749_200.25, 1_706_749_200_250])
def test_events_of_a_second_keep_their_order(time):
    body = orjson.dumps({"events": [{"item": "i01", "time": time}]})
    found = event_bodies.parse(body, UTC, datetime.now(UTC))
    assert found.times.tolist() == [1_706_749_200_250_000]


def test_of_who_took_it_a_number_is_kept_and_no_id():
    body = orjson.dumps({"events": [{"item": "i1", "user": user} for user in ("u", 7, "7", None)]})
    found = event_bodies.parse(body, UTC, datetime.now(UTC)).users.tolist()
    assert found[1] == found[2] and len(set(found)) == 3
    assert found[3] == NOBODY


def test_a_body_has_ten_thousand_events_at_the_most():
    """Asked of the reader itself: this small server takes no body that long."""
    event = {"item": "i01"}
    now = datetime.now(UTC)
    whole = event_bodies.parse(orjson.dumps({"events": [event] * 10_000}), UTC, now)
    assert len(whole.items) == len(whole.times) == 10_000
    with pytest.raises(Problem, match="1 to 10,000") as raised:
        event_bodies.parse(orjson.dumps({"events": [event] * 10_001}), UTC, now)
    assert raised.value.type == "out_of_range"
