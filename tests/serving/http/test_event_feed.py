"""The thread that feeds events to the version that answers, and how one version takes over from another."""

import numpy as np
import pytest

from serving.http import event_feed
from serving.http.hot_swap import LiveVersion
from serving.http.prometheus import Metrics
from serving.version import version_updates
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


def test_what_takes_over_has_the_new_items_from_its_first_answer_on(version):
    feed = event_feed.EventFeed(1000, 10, lambda _: None, Metrics())
    now = np.full(50, event_feed._now())
    feed.take(version, Events.of(["i08"] * 50, now))
    feed.take(version, Events.of(["new"] * 5, now[:5]))
    warmed = []

    def first_of(asked: Version) -> str:
        return asked.ids[asked.candidate_sources.by_name["popular"].order[0]]

    def warm(asked: Version) -> None:
        warmed.append((asked, first_of(asked)))
        feed.take(version, Events.of(["i09"] * 90, np.full(90, event_feed._now())))

    answering = feed.follow(version, warm)
    assert warmed == [(version, "i08")], "asked for what users will be told"
    assert answering.rows(["new"]).tolist() == [12]
    assert first_of(answering) == "i09", "which was sent meanwhile"
    end = version_updates.counted_until(version)
    told = feed.take(version, Events.of(["i08"] * 3, end + np.array([-1, 0, 1])))
    assert told["before_version"] == 1


def test_a_grown_version_is_asked_once_before_it_answers(version, monkeypatch):
    """What is made when it is first asked for is there by then."""
    seen = []
    monkeypatch.setattr(
        event_feed, "recommend", lambda version, *_, **__: seen.append(("asked", version))
    )
    feed = event_feed.EventFeed(1000, 10, lambda one: seen.append(("grown", one)), Metrics())
    feed.take(version, Events.of(["new"] * 5, np.full(5, event_feed._now())))
    answering = feed.follow(version, lambda _: None)
    assert answering is not version
    assert seen == [("asked", answering), ("grown", answering), ("grown", answering)]


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
