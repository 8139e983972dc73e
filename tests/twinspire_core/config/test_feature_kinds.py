from typing import Any

import pytest
from pydantic import TypeAdapter

from twinspire_core.config.feature_kinds import Feature, VocabularyFeature

QUERY, ITEM = {"tower": "query"}, {"tower": "item"}

# kind, keys: what towers read, table, vocabulary, analysed
KNOWN: list[tuple[str, dict[str, Any], str, str | None, bool, bool]] = [
    ("id", QUERY, "id", "events", True, True),
    ("id", ITEM, "id", "events", True, True),
    ("category", QUERY, "id", "events", True, True),
    ("category", QUERY | {"from": "users"}, "id", "users", True, True),
    ("category", ITEM, "id", "items", True, True),
    ("categories", ITEM, "ids", "items", True, True),
    ("number", QUERY, "number", "events", False, True),
    ("text", ITEM, "ids", "items", False, False),
    ("vector", ITEM | {"size": 3}, "vector", "items", False, False),
    ("count", {"days": 7}, "number", None, False, True),
    ("age", {}, "number", None, False, True),
    ("time", {}, "id", None, False, False),
    ("history", {}, "ids", None, False, False),
]


def feature(kind: str, keys: dict[str, Any]) -> Feature:
    return TypeAdapter(Feature).validate_python({"kind": kind, **keys})


@pytest.mark.parametrize(
    ("kind", "keys", "form", "table", "vocabulary", "analysed"),
    KNOWN,
    ids=[f"{kind}-{'-'.join(map(str, keys.values()))}" for kind, keys, *_ in KNOWN],
)
def test_a_kind_knows_what_stages_ask_for(kind, keys, form, table, vocabulary, analysed):
    f = feature(kind, keys)
    assert (f.form, f.source_table) == (form, table)
    assert (isinstance(f, VocabularyFeature), f.is_analysed) == (vocabulary, analysed)
    assert f.vector_size == keys.get("size")
    assert f.columns("x") == (["x_hour", "x_weekday"] if kind == "time" else ["x"])
