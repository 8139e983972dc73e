"""Users whom the version knows, while events move its lists: what it knows of them still counts, and a
request needs no history.

`anna` took i03, then i05, and before these i04; of `ben` nothing is known that was taken
(tests/serving/conftest.py).
"""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from serving.http import events as live_events
from tests.serving import conftest as circle
from tests.serving import rankers
from tests.serving.http.conftest import FAST, answering, shop, until
from tests.serving.http.test_new_items import CARRIED, COUNTS, DAY
from tests.twinspire_core.sources.test_live_sources import by_pairs

ITEMS = [*circle.ITEMS, "new1", "new2"]
"""The version's, and two that came after it."""
UNMOVED = ("history", "two_tower")
"""Sources that go by no events."""
NEAR = 1.35
"""Places after which what was taken counts 1/e (docs/decisions/0025-between-trainings.md)."""
RANKER = rankers.files(
    ("popular", "history"), ("personal_share", "popular"), lambda rows: 20 * rows[:, 0] + rows[:, 1]
)


@pytest.fixture(scope="module")
def told():
    """Visits of the last two hours: users, items and seconds since 1970, each of another second."""
    rng = np.random.default_rng(4)
    number = 400
    seconds = live_events._now() // 1_000_000 - 1 - rng.choice(7000, number, replace=False)
    return rng.integers(0, 40, number), rng.integers(0, len(ITEMS), number), seconds


@pytest.fixture(scope="module")
def asked(tmp_path_factory, towers, told):
    """A server that was sent the visits, and what it listed for anna when nothing was sent yet."""
    home = tmp_path_factory.mktemp("known")
    pipeline = shop(home)
    carried = CARRIED | RANKER
    circle.publish(pipeline, towers, home / "staged", DAY, nominators=carried, counts=COUNTS)
    events = [
        {"item": ITEMS[item], "user": f"u{user}", "time": int(second)}
        for user, item, second in zip(*told, strict=True)
    ]
    with answering(pipeline, replace(FAST, max_body=100_000)) as client:
        before = {source: ask(client, source, {"user": "anna"}) for source in UNMOVED}
        # In one body, so that all of it is known when what is taken together is first looked at.
        assert client.post("/v1/events", json={"events": events}).status_code == 200
        until(lambda: client.get("/v1/version").json()["new_items"] == 2)
        yield client, before


@pytest.fixture
def client(asked):
    return asked[0]


def ask(client, source: str | None, *queries: dict, k: int = 14, **options) -> list[dict]:
    body = {"queries": queries, "k": k, **options} | ({"source": source} if source else {})
    said = client.post("/v1/recommend", json=body)
    assert said.status_code == 200, said.text
    return said.json()["results"]


def own(result: dict) -> list[str]:
    """What `co_occurrence` itself has listed, without what fills up the list."""
    pairs = zip(result["items"], result["sources"], strict=True)
    return [item for item, source in pairs if source == "co_occurrence"]


def by_hand(told, *taken: str) -> list[str]:
    """Items by what visitors took close to what somebody took, the item taken last first."""
    users, items, seconds = (values.tolist() for values in told)
    near = by_pairs(users, items, [second * 1_000_000 for second in seconds])
    scores = defaultdict(float)
    for place, item in enumerate(taken):
        for (one, other), similarity in near.items():
            if ITEMS[one] == item:
                scores[ITEMS[other]] += math.exp(-place / NEAR) * similarity
    return sorted(scores, key=scores.get, reverse=True)


def test_co_occurrence_uses_the_history_that_the_version_stores(client, told):
    queries = [
        {"user": "anna"},
        {"user": "anna", "history": ["i03", "i05"]},
        {"user": "anna", "history": ["i08"]},
        {"user": "anna", "history": ["i05", "new1"]},
        {"user": "ben"},
        {"history": ["i08"]},
    ]
    lists = ask(client, "co_occurrence", *queries)
    anna, told_again, later, of_new, ben, stranger = map(own, lists)
    assert anna == by_hand(told, "i05", "i03", "i04")
    assert told_again == anna
    assert later == by_hand(told, "i08", "i05", "i03", "i04")
    assert of_new == by_hand(told, "new1", "i05", "i03", "i04")
    assert ben == [], "nothing to go by"
    assert stranger == by_hand(told, "i08")
    assert len({tuple(one) for one in (anna, later, of_new, stranger)}) == 4
    assert {"new1", "new2"} <= {*anna}
    for query, together in zip(queries, lists, strict=True):
        assert ask(client, "co_occurrence", query) == [together], "whoever is asked for beside"


def test_filters_and_what_was_seen_hold_for_known_users(client, told):
    [filtered] = ask(client, "co_occurrence", {"user": "anna", "allow": {"kind": "even"}})
    order = by_hand(told, "i05", "i03", "i04")
    assert own(filtered) == [item for item in order if item in circle.ITEMS[::2]]
    [unseen] = ask(client, "co_occurrence", {"user": "anna"}, exclude_seen=True)
    assert own(unseen) == [item for item in order if item not in ("i03", "i04", "i05")]


@pytest.mark.parametrize("source", ["fixed_order", "ranked"])
def test_a_stored_history_need_not_be_sent_again(client, source):
    anna = {"user": "anna"}
    queries = (anna, {**anna, "history": ["i03", "i05"]}, {"user": "ben"})
    known, told_again, ben = ask(client, source, *queries)
    for key in ("items", "scores", "sources"):
        assert known[key] == told_again[key], key
    assert known["items"] != ben["items"]


def test_other_sources_list_for_known_users_what_they_did(asked):
    client, before = asked
    assert {source: ask(client, source, {"user": "anna"}) for source in UNMOVED} == before
    [past] = before["history"]
    assert past["items"][:3] == ["i05", "i03", "i04"]
