import json

import pytest

from serving.http import bodies
from serving.http.bodies import BodyParser, SimilarRequest, read_object
from serving.http.http_errors import Problem
from serving.http.server_settings import Settings
from serving.requests.request_model import ListRequest, RequestModel
from tests.serving.batch.test_request_lines import PIPELINE

PARSER = BodyParser(RequestModel(PIPELINE), Settings(max_k=100, max_queries=5))


def parsed(parse, body: bytes) -> object:
    return parse(read_object(body, PARSER.most_objects))


def outcome(parse, body: bytes) -> object:
    try:
        return parsed(parse, body)
    except Problem as e:
        return e.type, str(e), e.detail


def test_lists_have_so_many_items_together():
    parser = BodyParser(RequestModel(PIPELINE), Settings(max_k=100, max_items=90))
    assert len(parsed(parser.recommend, b'{"queries": [{}, {}, {}], "k": 30}').queries) == 3
    assert parsed(parser.recommend, b'{"query": {}, "k": 100}').options.k == 100
    kind, message, detail = outcome(parser.recommend, b'{"queries": [{}, {}, {}, {}], "k": 23}')
    assert (kind, detail) == ("out_of_range", {"where": "k"})
    assert "found 4 lists of 23" in message


def test_a_history_has_so_many_ids():
    parser = BodyParser(RequestModel(PIPELINE), Settings(max_ids=3))
    for key in (b"history", b"exclude"):
        assert parsed(parser.recommend, b'{"query": {"%b": ["a", "b", "c"]}}' % key).single
        error = outcome(parser.recommend, b'{"query": {"%b": ["a", "b", "c", "d"]}}' % key)
        assert (error[0], error[2]) == ("out_of_range", {"where": key.decode()})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"queries": [{"a": 1}] * 6, "k": "a" * 10_000}, "queries"),
        ({"query": {"history": [{}] * 10_001}}, "history"),
        ({"queries": [{}, {"exclude": [1] * 10_001}]}, "exclude"),
        ({"query": {"allow": {"kind": [[]] * 10_001}}}, "allow"),
        ({"query": {"deny": dict.fromkeys(map(str, range(10_001)))}}, "deny"),
        ({"query": dict.fromkeys(map(str, range(10_001)))}, "query"),
        ({"query": {}, "k": [0] * 10_001}, "k"),
    ],
)
def test_lengths_are_looked_at_before_what_lists_hold(body, where):
    """A megabyte of what is wrong took minutes to be explained."""
    kind, message, detail = outcome(PARSER.recommend, json.dumps(body).encode())
    assert (kind, detail["where"]) == ("out_of_range", where)
    assert "found 6" in message or "at most 10,000 entries; found 10,001" in message


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": {"allow": {"kind": 1e999}}}',
        b'{"query": {"deny": {"kind": [1, -1e999]}}}',
        b'{"query": {"age": 1e999, "age": 1}}',
        b'{"query": {"device": "Infinity"}, "k": Infinity}',
    ],
)
def test_infinity_is_no_json_wherever_it_stands(body):
    assert outcome(PARSER.recommend, body)[0] == "bad_json"


def test_null_is_the_same_as_left_out():
    body = b'{"query": {"user": null, "age": null}, "queries": null, "k": null, "display": null}'
    assert parsed(PARSER.recommend, body) == parsed(PARSER.recommend, b'{"query": {}}')
    assert (
        parsed(PARSER.recommend, b'{"query": {}, "k": null, "source": null}').options
        == ListRequest()
    )
    assert parsed(PARSER.similar, b'{"item": "a", "k": null, "deny": null}') == SimilarRequest("a")


@pytest.mark.parametrize("number", ["123456789012345678901234567890", "1e30", "-1e30"])
def test_an_id_is_no_number_that_readers_of_json_round(number):
    for body in ('{"query": {"user": %s}}', '{"query": {"history": ["a", %s]}}'):
        assert outcome(PARSER.recommend, (body % number).encode())[0] == "wrong_type"
    assert outcome(PARSER.similar, b'{"item": %s}' % number.encode())[0] == "wrong_type"
    assert parsed(PARSER.recommend, b'{"query": {"user": 7.0}}').queries == [{"_user": "7"}]


def test_objects_are_counted_before_they_are_made(monkeypatch):
    text = {"query": {"device": '{["' * 20_101}, "k": 3}
    assert parsed(PARSER.recommend, json.dumps(text).encode()).options.k == 3
    monkeypatch.setattr(bodies, "orjson", None)
    for body in (
        b'{"queries":[' + b"{}," * 20_101,
        b'{"k":[' + b'[],"\\"",' * 20_101,
        b"[" * 20_101,
    ):
        kind, message, _ = outcome(PARSER.recommend, body)
        assert kind == "out_of_range" and "at most 20,100 objects and lists; found 20,1" in message


@pytest.mark.timeout(60)  # a scan that starts again at each quote takes hours
@pytest.mark.parametrize("end", [b"", b"\\", b"\\\n"])
def test_a_megabyte_that_is_one_text_without_an_end_is_scanned_once(end):
    body = b"[" * 20_101 + b'"' + b'\\"[' * 340_000 + end
    message = outcome(PARSER.recommend, body)[1]
    assert "found 20,101." in message
