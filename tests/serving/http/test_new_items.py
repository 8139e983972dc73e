"""Items that came after the version: a server lists them once users take them, and answers whole
meanwhile.
"""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.http import events as live_events
from serving.version import live_updates
from tests.serving import conftest as circle
from tests.serving.http.conftest import FAST, answering, shop, until
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.fusion.rank_fusion import FixedOrder

COUNTS = {column: [12.0 - n for n in range(12)] for column in TRENDING_HALF_LIVES}
ORDER = FixedOrder(weights={"two_tower": 0.001, "popular": 0.99, "history": 0.009}, half_life="3h")
CARRIED = {FixedOrder.FILE: ORDER.dump()}
DAY = str((datetime.now(UTC) - timedelta(days=2)).date())


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def live(home, towers):
    return circle.publish(
        shop(home), towers, home / "staged", DAY, nominators=CARRIED, counts=COUNTS
    )


@pytest.fixture
def client(home, live, monkeypatch):
    """Asks a server that looks at events all the time, and whose catalogue may grow whenever it does."""
    monkeypatch.setattr(live_events, "_INTERVAL", 0.02)
    monkeypatch.setattr(live_updates, "_GROWN", 0)
    with answering(shop(home)) as asking:
        yield asking


def send(client, item: str, users: int, beside: str | None = None) -> dict:
    """Users who took an item, and before it another one."""
    events = []
    for user in range(users):
        if beside:
            events.append({"item": beside, "user": f"{item}-{user}"})
        events.append({"item": item, "user": f"{item}-{user}"})
    return client.post("/v1/events", json={"events": events}).json()


def ask(client, source: str | None = None, k: int = 3, **query) -> list[str]:
    options = {} if source is None else {"source": source}
    said = client.post("/v1/recommend", json={"query": query, "k": k, **options})
    assert said.status_code == 200, said.text
    return said.json()["items"]


def test_a_new_item_is_listed_for_others_once_users_take_it(client, live):
    before = client.get("/v1/version").json()
    assert send(client, "new", 2)["unknown_items"] == 2
    send(client, "i08", 30)
    until(lambda: ask(client, "popular", 1) == ["i08"])
    assert "new" not in ask(client, "popular", 40), "two users are too few"
    assert send(client, "new", 40, beside="i05")["unknown_items"] == 40
    until(lambda: ask(client, "popular", 1) == ["new"])
    assert ask(client, "co_occurrence", 1, history=["i05"]) == ["new"]
    assert "new" in ask(client, None, 5, user="stranger"), (
        "the fixed order, which answers by default"
    )
    assert "new" not in ask(client, "two_tower", 40)
    assert "new" not in ask(client, None, 40, deny={"kind": "odd"})
    assert "new" not in ask(client, None, 40, exclude=["new"])
    assert send(client, "new", 1)["unknown_items"] == 0
    after = client.get("/v1/version").json()
    assert (before["new_items"], after["new_items"]) == (0, 1)
    others = {"new_items", "sources"}
    assert {k: v for k, v in after.items() if k not in others} == {
        k: v for k, v in before.items() if k not in others
    }
    assert after["version"] == live and after["items"] == 12
    assert client.get("/readyz").json()["version"] == live
    assert "twinspire_swaps_total 1.0" in client.get("/metrics").text


def test_a_new_item_is_shown_and_explained(client):
    send(client, "new", 40)
    until(lambda: ask(client, "popular", 1) == ["new"])
    body = {"query": {"history": ["new", "i03"]}, "k": 5, "display": True, "explain": True}
    said = client.post("/v1/recommend", json=body).json()
    place = said["items"].index("new")
    assert said["display"][place] == {"item": "new", "name": None, "colour": None}
    assert said["sources"][place] in ("popular", "co_occurrence")
    assert [one["item"] for one in said["history"]] == ["i03", "new"]
    page = client.get("/?history=i03&k=5")
    assert page.status_code == 200 and ">new</a>" in page.text
    of_new = page.text.split(">new</a>")[1].split("</li>")[0]
    assert "It is newer than this version" in of_new and "had no event" not in of_new
    like = client.post("/v1/similar", json={"item": "new"})
    assert like.status_code == 404 and like.json()["error"]["type"] == "unknown_item"
    assert "newer than the version" in like.json()["error"]["message"]
    assert client.get("/item?item=new").status_code == 404
    stranger = client.post("/v1/similar", json={"item": "other"}).json()["error"]["message"]
    assert stranger.endswith("found 'other'.")


def test_a_server_can_ignore_new_items(home, live):
    with answering(shop(home), replace(FAST, max_new_items=0)) as client:
        send(client, "new", 40)
        send(client, "i08", 40)
        until(lambda: ask(client, "popular", 1) == ["i08"])
        assert "new" not in ask(client, "popular", 40)


def test_answers_are_whole_while_the_catalogue_grows(client):
    """Each of one catalogue, with what belongs to its items."""
    stop = threading.Event()
    problems: list[str] = []
    answered = [0]

    def follow(source: str | None) -> None:
        body = {"queries": [{"history": ["i03", "n3"]}, {"user": "anna"}, {}], "display": True}
        body |= {"k": 60} | ({"source": source} if source else {})
        longest = 0
        while not stop.is_set():
            said = client.post("/v1/recommend", json=body)
            if said.status_code != 200:
                problems.append(said.text)
                return
            for result in said.json()["results"]:
                items = result["items"]
                shown = [one["item"] for one in result["display"]]
                if len(set(items)) != len(items) or shown != items or None in result["scores"]:
                    problems.append(f"{source}: {result}")
                if source == "two_tower" and not set(items) <= set(circle.ITEMS):
                    problems.append(f"{source}: {items}")
            lengths = {len(result["items"]) for result in said.json()["results"]}
            if len(lengths) != 1 or min(lengths) < longest:
                problems.append(f"{source}: lists of {lengths} items after {longest}")
            longest = max(lengths)
            answered[0] += 1

    threads = [
        threading.Thread(target=follow, args=(source,))
        for source in (None, "popular", "co_occurrence", "two_tower")
    ]
    for number in range(25):
        send(client, f"n{number}", 5, beside="i03")
        until(lambda number=number: client.get("/v1/version").json()["new_items"] == number + 1)
        before = answered[0]
        if number == 0:  # from here on there is what is taken together
            for thread in threads:
                thread.start()
        until(lambda before=before: answered[0] > before or problems)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]
    assert len(ask(client, "popular", 60)) == 37
