import json

import pytest

from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures, value_of

WRITTEN = {
    "seen": "kept",
    "users": 3,
    "recall@50": 0.25,
    "mrr": 0.5,
    "slices": {
        "users": {"0": {"users": 1, "queries": 2, "recall@50": 0.75}, "1+": {"users": 0}},
        "items": {"0": {"users": 2, "true": 4, "recall@50": 0.125}, "outside": {"true": 7}},
    },
    "intervals": {"recall@50": [0.2, 0.3]},
    "excluded": {"seen": "excluded", "users": 3, "recall@50": 0.0},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall@50", 0.25),
        ("mrr", 0.5),
        ("recall@50/users:0", 0.75),
        ("recall@50/items:0", 0.125),
        ("recall@10", None),
        ("recall@50/users:1+", None),
        ("recall@50/users:5-19", None),
        ("users", None),
    ],
)
def test_a_measure_is_asked_for_by_its_name(name, value):
    assert Measures.model_validate(WRITTEN).value(name) == value


def test_what_is_no_measure_is_none_of_the_values():
    measures = Measures.model_validate({**WRITTEN, "comment": "odd", "hit_rate@50": None})
    assert measures.values == {"recall@50": 0.25, "mrr": 0.5}
    assert measures.value("hit_rate@50") is None and value_of(None, "mrr") is None


def test_lists_in_order_are_comparable_with_those_of_as_many_users():
    def metrics(users):
        of_order = {"users": 40, "candidate": {"mrr": 0.5}}
        held_out = {"users": users, "candidate": {"mrr": 0.25}}
        given = {"holdout": held_out, "fixed_order": {"holdout": of_order}}
        return DayMetrics.model_validate(given)

    assert metrics(40).comparable_fixed_order.value("mrr") == 0.5
    assert metrics(60).comparable_fixed_order is None, "those of earlier days were not asked"
    assert DayMetrics().comparable_fixed_order is None


def test_measures_of_a_kind_whichever_counted():
    kept = Measures.model_validate(WRITTEN)
    without = {key: value for key, value in WRITTEN.items() if key != "excluded"}
    swapped = {**WRITTEN["excluded"], "kept": without}
    excluded = Measures.model_validate(swapped)
    assert (kept.kind, kept.other.kind) == ("kept", "excluded")
    assert (excluded.kind, excluded.other.kind) == ("excluded", "kept")
    written = json.loads(json.dumps(excluded.model_dump()))
    assert written == swapped and list(written) == list(swapped)
    old = Measures.model_validate({"recall@50": 0.5})
    assert (old.kind, old.other) == ("kept", None)
