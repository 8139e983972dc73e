from dataclasses import replace
from html import unescape
from urllib.parse import parse_qsl, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.inspector.address import Address
from serving.requests.request_model import RequestModel

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
