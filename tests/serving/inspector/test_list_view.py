"""Addresses of the inspector as requests, and the lists that its pages show."""

from dataclasses import replace
from datetime import UTC, date, datetime
from html import unescape
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.http.bodies import BodyParser
from serving.http.hot_swap import Served
from serving.http.server_settings import Settings
from serving.inspector import templating
from serving.inspector.address import Address
from serving.inspector.list_view import ListView, Row, compared, recommended
from serving.requests.query_rows import Requests
from serving.requests.request_model import RequestModel
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.display.served_figure import on_next_day


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


def test_a_version_without_users_and_popularity_is_shown_too(without_users):
    requests, settings = Requests(without_users.pipeline), Settings()
    parser = BodyParser(requests.model, settings)
    asked = parser.recommend_from({"query": {"user": "anna", "place": 4}, "k": 3, "display": True})
    parts = recommended(without_users, True, requests, asked)
    with pytest.raises(StopIteration) as ended:
        while True:
            next(parts)
    found = ended.value.value
    assert (found.status, found.basis, found.history) == (200, "the features", [])
    assert found.rows[0].item == "i04" and [row.tags for row in found.rows] == [[], [], []]

    service = SimpleNamespace(pipeline=without_users.pipeline, requests=requests, settings=settings)
    served = Served(without_users, datetime(2024, 1, 2, 15, tzinfo=UTC))
    landing = templating.view(service, served, Address(), None, [], [], None)
    assert "This version carries no users" in landing and "3 Jan 2024, 00:00 JST" in landing
    assert "was not measured" in landing
    nothing = replace(found, rows=[replace(row, score="") for row in found.rows])
    views = [
        templating.view(service, served, Address(user="anna"), None, [], [one], None)
        for one in (found, nothing)
    ]
    assert all("Item [4]" in page for page in views)
    assert ['title="score"' in page for page in views] == [True, False]

    recall = {"users": 400, "recall@50": 0.5}
    measured = {"progressive": recall, "baselines": {"purchase_history": {"recall@50": 0.4}}}
    figure = on_next_day(DayMetrics.model_validate(measured), None, date(2024, 1, 3), "recall@50")
    told = templating.view(service, served, Address(), figure, [], [], None)
    assert "served 0.500, past purchases 0.400, over all 400 measured users of 2024-01-03" in told
    assert "served: 25.0% better than the best simple list" in told and "not measured" not in told


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")).map(str.strip)
NAMED = st.dictionaries(TEXT, st.lists(TEXT.filter(bool), min_size=1, max_size=2), max_size=2)
FORMS = st.builds(
    Address,
    user=TEXT,
    history=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
    feature=st.dictionaries(TEXT, TEXT.filter(bool), max_size=2),
    k=TEXT,
    source=TEXT,
    exclude_seen=TEXT,
    rules=TEXT,
    new_share=TEXT,
    allow=NAMED,
    deny=NAMED,
    version=TEXT,
    against=TEXT,
    item=TEXT,
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
        "/?user=7&history=i1%0D%0A+i2+%0D%0A&history=i3&k=5&source=history&exclude_seen=1"
        "&feature.place=2.5&feature.when_hour=7&allow.kind=a&allow.kind=b&deny.stock=false"
    )
    assert form.recommend_body(RequestModel(pipeline)) == {
        "query": {
            "user": "7",
            "history": ["i1", "i2", "i3"],
            "place": 2.5,
            "when_hour": 7,
            "allow": {"kind": ["a", "b"]},
            "deny": {"stock": ["false"]},
        },
        "k": 5,
        "source": "history",
        "exclude_seen": True,
    }
    assert read("/item?item=i1&k=x&allow.kind=a").similar_body() == {
        "item": "i1",
        "k": "x",
        "allow": {"kind": ["a"]},
    }


@given(form=FORMS, item=TEXT.filter(bool))
@settings(max_examples=50)
def test_an_items_address_is_that_of_the_view_with_the_item(form, item):
    link = urlsplit(unescape(form.link_to_items()(item)))
    assert link.path == "/item"
    assert Address.read(parse_qsl(link.query)) == Address.read(replace(form, item=item).pairs())
