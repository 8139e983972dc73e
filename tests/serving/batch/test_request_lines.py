import json
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.request_files import read_requests
from serving.requests.json_values import Refused
from serving.requests.query_rows import Requests
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.errors import BadData

PIPELINE = tiny_pipeline(
    source=dict.fromkeys(("items", "events", "users"), "/none/dt={date}/"),
    corpus={"attributes": ["kind"]},
    features={
        "customer": {"kind": "id", "tower": "query"},
        "seen": {"kind": "history", "length": 3},
        "device": {"kind": "category", "tower": "query"},
        "age": {"kind": "number", "tower": "query"},
        "tags": {"kind": "categories", "tower": "query", "separator": ","},
        "taste": {"kind": "vector", "tower": "query", "size": 2, "from": "users"},
        "when": {"kind": "time"},
        "item": {"kind": "id", "tower": "item"},
    },
)
REQUESTS = Requests(PIPELINE)


def looked_at(lines: list[bytes]) -> pa.Table | None:
    try:
        return REQUESTS.table([json.loads(line) for line in lines])
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
        **dict.fromkeys(("user", "device"), texts),
        **dict.fromkeys(("history", "exclude", "tags"), lists),
        "age": numbers,
        "taste": st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=2) | st.none(),
        "when_hour": st.integers(0, 23) | st.none(),
        "when_weekday": st.integers(0, 6) | st.none(),
    },
)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The rows of the lines of a file; None if it is malformed."""
    file = tmp_path_factory.mktemp("lines") / "queries.jsonl"

    def read(lines: list[bytes]) -> pa.Table | None:
        file.write_bytes(b"\n".join(lines))
        try:
            [(_, table)] = read_requests(REQUESTS, file, "queries")
        except BadData:
            return None
        return table

    return read


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), asked=st.lists(requests, min_size=1, max_size=3), escaped=st.booleans())
def test_lines_are_read_as_python_reads_them(read, data, asked, escaped):
    """Among them values of any type, and keys given twice, of which the last one counts."""
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=3,
    )
    lines = [json.dumps(one, ensure_ascii=escaped).encode() for one in asked]
    if data.draw(st.booleans()):
        name = st.sampled_from([*REQUESTS.model.fields, "agee", ""])
        place = data.draw(st.integers(0, len(lines) - 1))
        added = f"{json.dumps(data.draw(name))}: {json.dumps(data.draw(odd))}".encode()
        lines[place] = lines[place][:-1] + (b", " if len(lines[place]) > 2 else b"") + added + b"}"
    actual, expected = read(lines), looked_at(lines)
    assert actual == expected if expected is None else actual.equals(expected)


@pytest.mark.parametrize(
    "line",
    [
        b'{"user": "a"} {"user": "b"}',
        b'{"user": "a"',
        b'{"customer": "a", "user": "b"}',
        b'{"user": "\\ud800"}',
        b'{"user": "\xff"}',
        b'{"age": 1e39}',
        b'{"age": 1e999}',
        b'{"age": NaN}',
        b'{"taste": [1, null]}',
        b"[]",
        b"null",
    ],
)
def test_a_line_that_is_no_request_is_refused(read, line):
    assert looked_at([line]) is None
    assert read([b'{"user": "u"}', line]) is None


def test_integers_of_64_bits_are_ids(read):
    assert read([b'{"user": %d}' % (2**64 - 1)])["customer"].to_pylist() == [str(2**64 - 1)]
    assert read([b'{"user": 123456789012345678901}']) is None, "the reader of JSON has rounded it"


def test_names_of_one_thing_may_differ_from_line_to_line(read):
    first = b'{"user": "a", "history": ["x", "y", "z", "w"]}'
    lines = [first, b'{"customer": "b", "seen": []}', b"{}"]
    table = read(lines)
    assert table.equals(looked_at(lines))
    assert table["customer"].to_pylist() == ["a", "b", None]
    assert table["seen"].to_pylist() == [["y", "z", "w"], [], None]
    assert table["_seen"].to_pylist() == [["x", "y", "z", "w"], [], None]
    assert math.isclose(read([b'{"age": 0.1}'])["age"][0].as_py(), 0.1, rel_tol=1e-6)
