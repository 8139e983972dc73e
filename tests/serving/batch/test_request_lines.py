"""Lines read column by column are what they are when looked at one by one."""

import json
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batch.request_lines import PlainLines
from serving.requests.duplicate_keys import distinct
from serving.requests.query_rows import Requests
from serving.requests.request_model import Refused
from twinspire_core.config.pipeline import Pipeline

PIPELINE = Pipeline.model_validate(
    {
        "pipeline": {"name": "tiny"},
        "source": {
            "items": "/none/dt={date}/",
            "events": "/none/dt={date}/",
            "users": "/none/dt={date}/",
        },
        "columns": {"user": "user", "item": "item", "time": "time"},
        "corpus": {"attributes": ["kind"]},
        "features": {
            "customer": {"kind": "id", "tower": "query"},
            "seen": {"kind": "history", "length": 3},
            "device": {"kind": "category", "tower": "query"},
            "age": {"kind": "number", "tower": "query"},
            "tags": {"kind": "categories", "tower": "query", "separator": ","},
            "taste": {"kind": "vector", "tower": "query", "size": 2, "from": "users"},
            "when": {"kind": "time"},
            "item": {"kind": "id", "tower": "item"},
        },
    }
)
REQUESTS = Requests(PIPELINE)
PLAIN = PlainLines(REQUESTS)


def looked_at(lines: list[bytes]) -> pa.Table | None:
    try:
        return REQUESTS.table([json.loads(line, object_pairs_hook=distinct) for line in lines])
    except (ValueError, Refused):
        return None


texts = st.text(max_size=3) | st.none()
numbers = (
    st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-5, 5) | st.none()
)
lists = st.lists(st.text(max_size=2), max_size=6) | st.none()
requests = st.fixed_dictionaries(
    {},
    optional={
        "user": texts,
        "history": lists,
        "exclude": lists,
        "device": texts,
        "age": numbers,
        "tags": lists,
        "taste": st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=2) | st.none(),
        "when_hour": st.integers(0, 23) | st.none(),
        "when_weekday": st.integers(0, 6) | st.none(),
    },
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(asked=st.lists(requests, min_size=1, max_size=5), plainly=st.booleans())
def test_plain_lines_are_read_as_they_would_be_one_by_one(asked, plainly):
    lines = [json.dumps(one, ensure_ascii=plainly).encode() + b"\r\n" for one in asked]
    found = PLAIN.table(lines)
    assert found is not None
    assert found.equals(looked_at(lines))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), asked=st.lists(requests, min_size=1, max_size=3))
def test_of_odd_lines_none_is_read_otherwise(data, asked):
    """Values of any type, keys twice, cut lines: left to a closer look, or read as that would."""
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        st.lists,
        max_leaves=3,
    )
    name = st.sampled_from([*REQUESTS.model.fields, "agee", ""])
    lines = [json.dumps(one).encode() for one in asked]
    place = data.draw(st.integers(0, len(lines) - 1))
    added = f"{json.dumps(data.draw(name))}: {json.dumps(data.draw(odd))}".encode()
    lines[place] = lines[place][:-1] + (b", " if len(lines[place]) > 2 else b"") + added + b"}"
    found = PLAIN.table(lines)
    assert found is None or found.equals(looked_at(lines))


@pytest.mark.parametrize(
    "line",
    [
        b'{"user": "a"} {"user": "b"}',
        b'{"user": "a"',
        b'{"user": "a", "user": "b"}',
        b'{"customer": "a", "user": "b"}',
        b'{"history": ["a"], "seen": ["b"]}',
        b'{"user": "\\ud800"}',
        b'{"user": "\xff"}',
        b'{"user": 7}',
        b'{"user": true}',
        b'{"age": 1e39}',
        b'{"age": 1e999}',
        b'{"age": NaN}',
        b'{"age": "3"}',
        b'{"when_hour": 24}',
        b'{"when_hour": -1}',
        b'{"when_weekday": 7}',
        b'{"taste": [1]}',
        b'{"taste": [1, null]}',
        b'{"history": ["a", null]}',
        b'{"tags": "a,b"}',
        b'{"agee": 3}',
        b'{"allow": {"kind": "x"}}',
        b"[]",
        b"null",
        b'\xef\xbb\xbf{"user": "a"}',
    ],
)
def test_what_is_not_plain_is_left_to_a_closer_look(line):
    assert PLAIN.table([b'{"user": "u"}', line]) is None
    halves = [b'{"user": "a"', b', "age": 1} {}']  # two lines and two objects, but not one in each
    assert PLAIN.table(halves) is None


def test_names_of_one_thing_may_differ_from_line_to_line():
    lines = [
        b'{"user": "a", "history": ["x", "y", "z", "w"]}',
        b'{"customer": "b", "seen": []}',
        b"{}",
    ]
    table = PLAIN.table(lines)
    assert table is not None and table.equals(looked_at(lines))
    assert table["customer"].to_pylist() == ["a", "b", None]
    assert table["seen"].to_pylist() == [["y", "z", "w"], [], None]
    assert table["_seen"].to_pylist() == [["x", "y", "z", "w"], [], None]
    assert math.isclose(PLAIN.table([b'{"age": 0.1}'])["age"][0].as_py(), 0.1, rel_tol=1e-6)
