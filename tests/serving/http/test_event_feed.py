"""The thread that feeds events to the version that answers, and how one version takes over from another."""

import numpy as np
import pytest

from serving.http import event_feed
from serving.http.hot_swap import LiveVersion
from serving.http.prometheus import Metrics
from serving.version.event_buffer import Events
from serving.version.grown_version import GrownVersion
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.http.conftest import until
from tests.serving.version.followed_version import publish
from twinspire_core.errors import BadData


@pytest.fixture
def version(pipeline, towers, tmp_path) -> Version:
    """A version of a log that changes with the hour."""
    return publish(pipeline, towers, tmp_path / "staged", "3h")


def test_a_version_that_does_not_answer_leaves_the_live_one_its_events(
    pipeline, version, monkeypatch
):
    """Nor does it wait for events while the next one is warmed up."""
    monkeypatch.setattr(event_feed, "_INTERVAL", 0.02)
    live, other = version, Version.open(pipeline)
    feed = event_feed.EventFeed(1000, 0, lambda _: None, Metrics())

    def send(item: str, times: int) -> None:
        feed.take(live, Events.of([item] * times, np.full(times, event_feed._now())))
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


def test_the_version_that_answers_grows_and_no_other_takes_its_place(pipeline, version):
    """One that is warmed up beside it grows too, and waits."""
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
