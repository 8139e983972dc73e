"""Addresses of the inspector as requests, and the lists that its pages show."""

from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.http.bodies import BodyParser
from serving.http.hot_swap import Served
from serving.http.server_settings import Settings
from serving.inspector import list_view, templating
from serving.inspector.home_page import Reading
from serving.inspector.list_view import ListView, Row, compared, find_items, recommended
from serving.inspector.templating import Address
from serving.requests.query_rows import Requests
from serving.requests.request_model import RequestModel


def panel(items: str, **more) -> ListView:
    return ListView(
        version="v", live=False, rows=[Row(item=one, name=one, about="") for one in items], **more
    )


def test_how_items_moved():
    first, second = compared([panel("abc"), panel("cad")])
    assert [(row.item, row.moved, row.alone) for row in first.rows] == [
        ("a", None, False),
        ("b", None, True),
        ("c", None, False),
    ]
    assert [(row.item, row.moved, row.alone) for row in second.rows] == [
        ("c", 2, False),
        ("a", -1, False),
        ("d", None, True),
    ]
    assert first.shared == second.shared == 2


@pytest.mark.parametrize(
    ("typed", "items"),
    [
        ("i03", ["i03"]),
        ("ITEM [4]", ["i04"]),  # its whole name, though more begin so
        ("item [1", ["i11", "i10", "i01"]),  # a part: the most popular first
        ("[", [f"i{n:02d}" for n in range(11, -1, -1)]),
        ("nothing", []),
    ],
)
def test_items_by_their_name(version, typed, items):
    assert [row.item for row in find_items(version, typed)] == items


def test_a_version_without_users_and_popularity_is_shown_too(without_users):
    requests, settings = Requests(without_users.pipeline), Settings()
    parser = BodyParser(requests.model, settings)
    asked = parser.recommend({"query": {"user": "anna", "place": 4}, "k": 3, "display": True})
    parts = recommended(without_users, True, requests, asked)
    with pytest.raises(StopIteration) as ended:
        while True:
            next(parts)
    text = ended.value.value
    assert (text.status, text.basis, text.history) == (200, "the features", [])
    assert text.rows[0].item == "i04" and [row.tags for row in text.rows] == [[], [], []]

    service = SimpleNamespace(pipeline=without_users.pipeline, requests=requests, settings=settings)
    served = Served(without_users, datetime(2024, 1, 2, 15, tzinfo=UTC))
    service.live = SimpleNamespace(failure=None)
    landing = templating.home(service, served, Address(), Reading(), served.since)
    assert "This version stores no users" in landing and "3 Jan 2024, 00:00 JST" in landing
    assert "have not been measured yet" in landing
    page = templating.view(service, served, Address(user="anna"), Reading(), [text], None)
    assert "quality not measured" in page and "Item [4]" in page and 'title="score"' in page


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")).map(str.strip)
NAMED = st.dictionaries(TEXT, st.lists(TEXT.filter(bool), min_size=1, max_size=2), max_size=2)
FORMS = st.builds(
    Address,
    history=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
    feature=st.dictionaries(TEXT, TEXT.filter(bool), max_size=2),
    allow=NAMED,
    deny=NAMED,
    **dict.fromkeys(
        str.split("user k source exclude_seen rules new_share version against item"), TEXT
    ),
)


def read(address: str) -> Address:
    return Address.read(parse_qsl(urlsplit(address).query, keep_blank_values=True))


@settings(deadline=None)
@given(FORMS)
def test_an_address_says_all_of_a_view(form):
    assert read(form.link()) == form


def test_an_address_says_nothing_else():
    assert Address().link() == "/"
    assert Address(user="a b").link("/item", item="x&y") == "/item?user=a+b&item=x%26y"
    assert read("/?fbclid=1&user=&allow.kind=&k=") == Address()


def test_it_asks_what_a_program_would(pipeline):
    form = read(
        "/?user=7&history=i1%0D%0A+i2+%0D%0A&history=i3&k=5&source=history&exclude_seen=1&rules=0"
        "&feature.place=2.5&feature.when_hour=7&allow.kind=a&allow.kind=b&deny.stock=false"
    )
    query = {"user": "7", "history": ["i1", "i2", "i3"], "place": 2.5, "when_hour": 7}
    query |= {"allow": {"kind": ["a", "b"]}, "deny": {"stock": ["false"]}}
    options = {"k": 5, "source": "history", "exclude_seen": True, "rules": False}
    assert form.recommend_body(RequestModel(pipeline)) == {"query": query, **options}
    alike = {"item": "i1", "k": "x", "allow": {"kind": ["a"]}}
    assert read("/item?item=i1&k=x&allow.kind=a").similar_body() == alike


@given(form=FORMS, item=TEXT.filter(bool))
@settings(max_examples=50)
def test_an_items_address_is_that_of_the_view_with_the_item(form, item):
    link = urlsplit(unescape(form.link_to_items()(item)))
    assert link.path == "/item"
    assert Address.read(parse_qsl(link.query)) == Address.read(replace(form, item=item).pairs())


def test_a_reason_is_shown_once_in_each_direction():
    parts = [("popular (place 2)", 0.5), ("popular (score 0.1)", 0.4), ("popular (score 3)", -0.3)]
    reasons = [
        {"feature": text, "value": 1.0, "contribution": moved, "text": text}
        for text, moved in [*parts, ("listed by several sources", 0.2)]
    ]
    shown = [one["text"] for one in list_view._distinct(reasons)]
    assert shown == ["popular (place 2)", "popular (score 3)", "listed by several sources"]
