import base64
import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import create_app
from serving.http.server_settings import Settings
from serving.inspector import templating
from tests.serving import conftest as circle
from tests.serving.http.conftest import answering, running, shop, until
from tests.serving.inspector.conftest import EVIL, ITEMS, Shop
from twinspire_core import errors

RANKED = re.compile(r'<li>\s*<span class="rank">(.*?)</li>', re.S)


def get(asked: Shop, address: str, status: int = 200) -> str:
    response = asked.ask.get(address)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    return response.text


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def items(page: str) -> list[str]:
    """Ids of a list, in its order."""
    return [unescape(re.findall(r"<code>(.*?)</code>", row)[0]) for row in RANKED.findall(page)]


def row(page: str, item: str) -> str:
    return next(text(found) for found in RANKED.findall(page) if f"<code>{item}</code>" in found)


def panels(page: str) -> list[str]:
    return re.split(r"<h2>Recommended", page)[1:]


def test_it_opens_with_the_state_and_users_to_take(asked, monkeypatch):
    monkeypatch.setattr(errors, "_typed", "shop.toml")
    page = get(asked, "/")
    said = text(page)
    assert "Needs attention: the live version is too old" in said, "it is of 2024"
    assert "See what became of the days since: twinspire status shop.toml" in said
    assert f"3 Jan 2024 {asked.live}, live since" in said
    assert f'<a href="/report?version={asked.damaged}">' in page
    for user in ("anna", "ben", "cat"):
        assert f'<a href="/?user={user}">{user}</a>' in page
    assert "No day has been measured yet" in said
    assert items(page) == []
    chosen = get(asked, "/?version=2024-01-01")
    assert f'<option value="{asked.early}" selected>' in chosen


def test_an_item_by_its_name(asked):
    page = get(asked, "/item?item=%3Cb%3Eitem%3C/b%3E+4&k=3")
    assert (
        "Items called" not in page and 'name="item" value="i04"' in page and len(items(page)) == 3
    )
    page = get(asked, "/item?item=script&user=anna")
    assert (
        "Items called “script”" in text(page) and '<a href="/item?user=anna&amp;item=i11">' in page
    )


def test_a_list_is_what_a_program_gets(asked):
    body = {"query": {"user": "anna"}, "k": 7}
    said = asked.ask.post("/v1/recommend", json=body).json()
    page = get(asked, "/?user=anna&k=7")
    assert items(page) == said["items"]
    for item, score in zip(said["items"], said["scores"], strict=True):
        assert f"{score:.4f}" in next(found for found in RANKED.findall(page) if item[:3] in found)
    assert '{"query": {"user": "anna"}, "k": 7}' in unescape(page)


def test_the_reasons_by_hand(asked):
    """Anna came from i03 to i05, by i04; i00 alone has half of the last day's events, and none
    before.
    """
    page = get(asked, "/?user=anna&k=12")
    assert "fixed order, from what the version knows of the user" in text(page)
    rows = {item: next(r for r in RANKED.findall(page) if item[:3] in r) for item in ITEMS}
    seen = {item for item in ITEMS if "seen before" in text(rows[item])}
    assert seen == {"i03", "i04", "i05"}
    assert re.search(r"seen before source: purchase history 1\.500\d$", row(page, "i05")), (
        "first of both: 1 + 0.5"
    )
    assert row(page, "i03").startswith("2 ") and "source: purchase history" in row(page, "i03")
    assert "popular new or rare" in row(page, "i00") and "two-tower" in row(page, "i00")
    assert text(page).count("popular new or rare") == 1
    history = page[page.index("history, newest first") : page.index("Recommended")]
    assert re.findall(r"<code>(\w+)</code>", history) == ["i05", "i03"]


def test_filters_source_and_seen_items_act(asked):
    filters = "allow.kind=odd&deny.size=2&deny.size=0"
    page = get(asked, f"/?user=anna&k=12&source=two_tower&exclude_seen=1&{filters}")
    assert items(page) == ["i07"]
    assert "two-tower" in text(page)
    assert 'name="allow.kind" value="odd"' in page and 'name="deny.size" value="2"' in page
    assert "2 of 12 items" in text(page), "the note on a short list"
    assert '<option value="even">' in page and '<option value="2024-01-02">' in page, (
        "values to choose from"
    )


def test_a_box_that_is_not_ticked_says_so(asked):
    """A version may leave out what was seen by itself: then an empty box must not be silent."""
    page = get(asked, "/?user=anna")
    box = 'name="exclude_seen" value="0"><input type="checkbox" id="seen" name="exclude_seen" value="1"'
    assert f"{box}>" in page and f"{box} checked>" in get(asked, "/?user=anna&exclude_seen=1")
    assert f"{box}>" in get(asked, "/?user=anna&exclude_seen=0")
    assert items(get(asked, "/?exclude_seen=0")) == [], "nothing was asked"
    early = f"/?user=anna&k=1&source=two_tower&version={asked.early}"
    for said, first in (
        ("", "i06"),
        ("&exclude_seen=0&exclude_seen=1", "i06"),
        ("&exclude_seen=0", "i05"),
    ):
        assert items(get(asked, early + said)) == [first]


def test_somebody_who_is_described(asked):
    page = get(asked, "/?history=i02%0D%0Ai09&k=1&source=two_tower")
    assert items(page) == ["i09"] and "from the history" in text(page)
    assert items(get(asked, "/?feature.place=3.1&k=1&source=two_tower")) == ["i03"]
    assert items(get(asked, "/?feature.when_hour=7&k=1&source=two_tower")) == ["i07"]
    assert "i77 · not in the catalogue" in text(get(asked, "/?history=i02%0Ai77"))


def test_items_like_an_item(asked):
    page = get(asked, "/item?item=i02&k=4&user=anna")
    assert {*items(page)} == {"i00", "i01", "i03", "i04"} and {*items(page)[:2]} == {"i01", "i03"}
    assert "kind even" in text(page) and "tags two" in text(page)
    assert re.search(r"events in \d+ days 2 lately 0", text(page))
    assert 'href="/?user=anna&amp;k=4">Back to anna' in page
    assert '<a href="/item?user=anna&amp;k=4&amp;item=i03">' in page
    assert get(asked, "/?item=i02&k=4&user=anna") == page, "also where somebody left out the path"


def test_two_versions_side_by_side(asked):
    address = f"/?user=anna&k=4&version={asked.early}&against={asked.live}&exclude_seen=0"
    page = get(asked, address)
    early, live = panels(page)
    assert asked.early in early and asked.live in live
    assert items(early)[0] == "i05" and items(live)[:3] == ["i05", "i03", "i04"]
    assert set(items(early)[1:3]) == {"i04", "i06"}
    shared = len(set(items(early)) & set(items(live)))
    assert f"{shared} of 4 are in both lists." in text(early)
    alone = {item for item in items(early) if item not in items(live)}
    assert text(early).count("only here") == len(alone) > 0
    assert "fixed order" not in text(early)
    assert asked.ask.get("/v1/version").json()["version"] == asked.live
    day = get(asked, "/?user=anna&version=2024-01-01")
    assert asked.early in panels(day)[0] and f'<option value="{asked.early}" selected>' in day


def test_a_version_that_cannot_be_loaded_is_reported(asked):
    address = f"/?user=anna&version={asked.damaged}"
    assert "cannot be loaded" in get(asked, address, 409)
    assert items(get(asked, "/?user=anna&k=1")) == ["i05"]


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/?user=who", 404, "knows no user who"),
        (f"/?user={EVIL}", 404, f"knows no user {EVIL}"),
        ("/item?item=i99", 404, "found 'i99'"),
        ("/item", 422, "item is missing"),
        ("/?k=abc", 422, "k must be a whole number from 1 to 100; found 'abc'"),
        ("/?k=101", 422, "found 101"),
        ("/item?item=i01&k=-1", 422, "found -1"),
        ("/?feature.place=here", 422, "place must be a number; found 'here'"),
        ("/?feature.when_hour=24", 422, "from 0 to 23"),
        ("/?feature.plaice=1", 422, "did you mean 'place'"),
        ("/?source=astrology", 422, "source must be one of"),
        ("/?allow.colour=red", 422, "must name attributes of items"),
        ("/item?item=i01&deny.stock=maybe", 422, "true or false"),
        ("/?version=nowhere", 404, "circle has no version"),
        ("/?against=../../log", 404, "circle has no version"),
        ("/report?version=nowhere", 404, "circle has no version"),
        ("/report?version=../..", 404, "circle has no version"),
        ("/report", 404, "has no report. Run its day again"),
        ("/?user=%00%ff%f0&history=%20&allow.tags=%ff", 404, "knows no user"),
    ],
)
def test_what_is_wrong_is_said_on_a_page(asked, address, status, said):
    page = get(asked, address, status)
    assert said in text(page)
    assert 'role="alert"' in page and EVIL not in page


NAMES = str.split("""user history k source exclude_seen new_share rules version against item x
 feature.place feature.when_hour feature.user feature.recent feature. allow.kind allow.size
 allow.since allow.weight deny.stock deny.tags deny""")
ODD = [*str.split("7 -0 1e400 i05 anna two_tower history 2024 2024-01-03 true"), "12" * 20]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(ODD)
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), max_size=5)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["/", "/item", "/report"]), PAIRS)
def test_no_address_is_too_much(asked, path, pairs):
    response = asked.ask.get(path, params=pairs)
    assert response.status_code in (200, 404, 409, 422), response.text
    assert response.headers["content-type"].startswith("text/html")


def test_an_unknown_user_sees_what_anybody_does_and_one_described_is_no_error(asked):
    anybody = items(get(asked, "/?k=5"))
    assert items(get(asked, "/?user=who&k=5", 404)) == anybody
    assert items(get(asked, "/?user=who&history=i07&k=1&source=two_tower")) == ["i07"]


def test_nothing_of_the_logs_is_markup(asked):
    for address in (
        "/?user=anna&k=12",
        f"/item?item={ITEMS[6].replace(chr(34), '%22')}&k=12",
        f"/?history=i01{EVIL}",
    ):
        page = get(asked, address)
        assert "<script" not in page and "<b>Item" not in page
        assert "&lt;script&gt;alert" in page


def test_pages_forbid_the_browser_to_run_scripts(asked):
    for address in ("/", "/item?item=i01", "/item?item=script", "/?k=x"):
        response = asked.ask.get(address)
        policy = response.headers["content-security-policy"]
        style = re.search(r"<style>(.*?)</style>", response.text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert "script-src" not in policy and "unsafe" not in policy
        assert "style=" not in response.text
        headers = [response.headers[name] for name in ("cache-control", "referrer-policy")]
        assert headers == ["no-store", "no-referrer"]


def test_the_report_of_any_version(asked):
    response = asked.ask.get(f"/report?version={asked.early}")
    assert response.status_code == 200 and "<b>early</b>" in response.text
    assert response.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert asked.ask.get("/report?version=2024-01-01").text == response.text


def test_before_a_version_is_there_the_page_says_so_and_looks_again(tmp_path):
    with running(create_app(shop(tmp_path), Settings(poll=60, tokens=("secret",)))) as ask:
        response = ask.get("/", auth=("anybody", "secret"))
        assert response.status_code == 503 and 'http-equiv="refresh"' in response.text
        assert "No version of circle answers yet" in response.text
        assert ask.get("/").status_code == ask.get("/report").status_code == 401


class Slowed:
    """Makes pages only on demand; counts them."""

    def __init__(self, view) -> None:
        self.view, self.go, self.made = view, threading.Event(), 0

    def __call__(self, *shown):
        self.made += 1
        self.go.wait(20)
        return self.view(*shown)


@pytest.fixture
def slowed(monkeypatch) -> Iterator[Slowed]:
    slowed = Slowed(templating.view)
    monkeypatch.setattr(templating, "view", slowed)
    yield slowed
    slowed.go.set()


def test_pages_at_work_are_bounded_and_hold_up_no_health(asked, slowed):
    with ThreadPoolExecutor(20) as pool:
        pages = [pool.submit(asked.ask.get, "/?user=anna") for _ in range(20)]
        until(lambda: sum(page.done() for page in pages) == 12)
        assert asked.ask.get("/healthz").status_code == 200
        assert asked.ask.get("/report?version=2024-01-01").status_code == 503
        slowed.go.set()
        answers = [page.result() for page in pages]
    assert sorted(page.status_code for page in answers) == [200] * 8 + [503] * 12
    turned = next(page for page in answers if page.status_code == 503)
    assert "8 pages are being made already" in turned.text and 'http-equiv="refresh"' in turned.text


def test_no_page_is_made_for_those_who_have_left(asked, slowed):
    def left() -> float:
        figures = asked.ask.get("/metrics").text
        found = re.search(r'requests_total{path="/",status="499"} (.*)', figures)
        return float(found[1]) if found else 0.0

    before = left()
    address = (asked.ask.base_url.host, asked.ask.base_url.port)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(asked.ask.get, "/?user=anna")
        until(lambda: slowed.made == 1)
        for _ in range(7):
            with socket.create_connection(address, 5) as one:
                one.sendall(b"GET /?user=anna&k=100 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: left() == before + 7)
        slowed.go.set()
        assert first.result().status_code == 200
    assert asked.ask.get("/?user=anna").status_code == 200
    # A second worker may have begun one of the seven before its client had left
    assert slowed.made in (2, 3)


def test_a_page_has_two_hundred_items_at_the_most(towers, tmp_path):
    pipeline = shop(tmp_path)
    circle.publish(pipeline, towers, tmp_path / "staged")
    with answering(pipeline, Settings(poll=60)) as ask:
        assert ask.get("/?user=anna&k=200").status_code == 200
        assert "from 1 to 200; found 201" in text(ask.get("/?user=anna&k=201").text)
        assert "from 1 to 200; found 201" in text(ask.get("/item?item=i01&k=201").text)
        assert "1 to 200" in ask.get("/").text
        asked = ask.post("/v1/recommend", json={"query": {"user": "anna"}, "k": 1000})
        assert asked.status_code == 200


def test_a_long_address_is_refused_before_anybody_reads_it(asked):
    address = "/?history=i05" + "&history=i06" * 1000
    refused = asked.ask.get(address)
    assert (refused.status_code, refused.json()["error"]["type"]) == (414, "address_too_long")
    assert asked.ask.get(address[:8192]).status_code == 200
