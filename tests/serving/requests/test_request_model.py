import json

import orjson
import pytest

from serving.requests.json_values import Refused
from serving.requests.request_model import RequestModel
from tests.serving.batch.test_request_lines import PIPELINE
from twinspire_core.config.pipeline import Pipeline

MODEL = RequestModel(PIPELINE)


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("user", 1.5, "wrong_type", "user must be a string; found 1.5"),
        ("device", None, None, None),
        ("device", [], "wrong_type", "device must be a string; found []"),
        ("age", True, "wrong_type", "age must be a number; found True"),
        ("age", float("nan"), "out_of_range", "age must be a finite number; found nan"),
        ("age", 1e39, "out_of_range", "age must be a finite number; found 1e+39"),
        ("age", 10**400, "out_of_range", "age must be a finite number; found 1000"),
        (
            "when_hour",
            "7",
            "wrong_type",
            "when_hour must be a whole number from 0 to 23; found '7'",
        ),
        ("when_weekday", 7, "out_of_range", "a whole number from 0 to 6; found 7"),
        ("when_weekday", 7.0, "out_of_range", "a whole number from 0 to 6; found 7.0"),
        ("taste", [1, 2, 3], "wrong_type", "taste must be a list of 2 numbers; found [1, 2, 3]"),
        ("taste", [1], "wrong_type", "taste must be a list of 2 numbers; found [1]"),
        ("taste", [1, "a"], "wrong_type", "taste must be a number; found 'a'"),
        ("taste", [1, 1e39], "out_of_range", "taste must be a finite number; found 1e+39"),
        ("tags", 3, "wrong_type", "tags must be a list of strings; found 3"),
        ("history", ("a",), "wrong_type", "history must be a list of strings; found ('a',)"),
        ("seen", ["a", None], "wrong_type", "seen must be a string; found None"),
        ("agee", 1, "unknown_key", "'agee' is not a key of a query; did you mean 'age'?"),
    ],
)
def test_what_is_said_of_a_value(key, value, kind, message):
    if kind is None:
        assert MODEL.parse({key: value}) == {}
        return
    with pytest.raises(Refused) as refused:
        MODEL.parse({"exclude": ["a"], key: value}, 4)
    assert message in str(refused.value)
    assert (refused.value.kind, refused.value.row, refused.value.key) == (kind, 4, key)


@pytest.mark.parametrize("first", ["when_hour", "age", "plaice", "allow"])
def test_the_first_wrong_key_is_reported(first):
    wrong = {"when_hour": 24, "age": "x", "plaice": 1, "allow": 3}
    with pytest.raises(Refused, match=first):
        MODEL.parse({"tags": "a,b", first: wrong.pop(first), **wrong})


def test_two_names_of_one_thing_have_one_value():
    assert MODEL.parse({"user": 7, "customer": "7"}) == {"_user": "7"}
    with pytest.raises(Refused, match="seen is given under two names") as refused:
        MODEL.parse({"history": ["a"], "seen": []})
    assert (refused.value.kind, refused.value.key) == ("given_twice", "seen")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("5", "5"),
        ("-0", "0"),
        ("7.0", "7"),
        ("true", "true"),
        (str(-(2**63)), str(-(2**63))),
        (str(2**63 - 1), str(2**63 - 1)),
        (str(2**63), str(2**63)),
        (str(2**64 - 1), str(2**64 - 1)),
    ],
)
def test_ids_may_be_written_as_numbers(written, text):
    content = f'{{"user": {written}, "history": [{written}, "a"]}}'
    columns = {"_user": text, "_seen": [text, "a"]}
    assert MODEL.parse(json.loads(content)) == columns, "in a line"
    assert MODEL.parse(orjson.loads(content)) == columns, "in a body"


def test_features_may_be_called_like_methods():
    features = {
        name: {"kind": "number", "tower": "query"} for name in ("copy", "json", "model_fields")
    }
    pipeline = Pipeline.model_validate(
        PIPELINE.model_dump(by_alias=True, exclude_unset=True)
        | {"features": features | {"item": {"kind": "id", "tower": "item"}}}
    )
    request = {"copy": 1, "json": 2.5, "model_fields": 3}
    assert RequestModel(pipeline).parse(request) == request


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("device", "7", "7"),
        ("age", "7", 7),
        ("age", "2.5", 2.5),
        ("age", "old", "old"),
        ("when_hour", "7", 7),
        ("tags", "a, b,, c", ["a", "b", "c"]),
        ("taste", "1, 2.5", [1, 2.5]),
        ("taste", "1 x", [1, "x"]),
    ],
)
def test_what_a_person_types_becomes_a_value(key, typed, value):
    assert MODEL.fields[key].value.read_typed(typed) == value
