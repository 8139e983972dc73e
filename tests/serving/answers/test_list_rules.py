"""Rules on lists that are served, on the circle of twelve items: of item n, `kind` is even or odd,
`size` n // 4, and it had n events, so that i00 alone had none.
"""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.version.loaded_version import Version
from tests.serving.answers.test_retrieval import files, ids, in_order
from tests.serving.asking import recommend
from tests.serving.conftest import ATTRIBUTES, ITEMS, publish
from tests.serving.http.conftest import shop
from tests.twinspire_core.fusion.test_reranking import slow_list
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.deployment import ListsConfig

NOON = datetime(2024, 1, 3, 12)
VALUES = {
    "kind": [{kind} for kind in ATTRIBUTES["kind"]],
    "tags": [set(tags) for tags in ATTRIBUTES["tags"]],
    "stock": [{stock} - {None} for stock in ATTRIBUTES["stock"]],
}


@pytest.fixture(scope="module")
def published(towers, tmp_path_factory) -> Pipeline:
    """A version whose fixed order says what the user had before, then what the towers say."""
    home = tmp_path_factory.mktemp("ruled")
    pipeline = shop(home)
    carried = files(in_order(history=1, two_tower=0.5))
    publish(pipeline, towers, home / "staged", nominators=carried)
    return pipeline


@pytest.fixture(scope="module")
def ruled(published):
    """Opens the version with rules in the pipeline file; the same one for the same rules."""
    opened: dict[str, Version] = {}

    def make(**rules) -> Version:
        lists = ListsConfig(**rules)
        key = lists.model_dump_json()
        if key not in opened:
            opened[key] = Version.open(published.model_copy(update={"lists": lists}))
        return opened[key]

    return make


def numbers(version, answer, query=0):
    return [int(item[1:]) for item in ids(version, answer, query)]


def test_at_most_so_many_of_a_value(ruled):
    version = ruled(caps={"kind": 3})
    answer = recommend(version, [{"place": 3.2}], 8, source="two_tower")
    assert numbers(version, answer) == [3, 4, 2, 5, 1, 6], "by distance, three even and three odd"
    assert np.isnan(answer.scores[0, 6:]).all() and (np.diff(answer.scores[0, :6]) <= 0).all()
    said = "6 items instead of 8: the rest was seen or excluded, or is over a cap (kind 3)"
    assert answer.warnings.of(0) == (said,)
    more = recommend(version, [{"place": 3.2}], 50, source="two_tower")
    assert more.counts.tolist() == [6] and "6 items instead of 50" in more.warnings.of(0)[0]


def test_a_request_turns_rules_off(ruled):
    version = ruled(caps={"kind": 1}, new_share=1.0)
    anna = [{"user": "anna"}]
    plain = numbers(version, recommend(version, anna, 4, rules=False))
    assert plain[:3] == [5, 3, 4]
    assert numbers(version, recommend(version, anna, 4, new_share=0)) == [5, 4], "caps hold"
    only_new = numbers(version, recommend(version, anna, 4, rules=False, new_share=1))
    assert len(only_new) == 4 and not {3, 4, 5} & set(only_new)
    past = numbers(version, recommend(version, anna, 4, source="history"))
    assert past == [5, 3, 4, 11], "a simple source that is named is given as it is"


def test_a_share_of_new_items_that_is_not_reached_is_reported(ruled):
    version = ruled(new_share=0.5)
    history = [item for item in ITEMS if item != "i07"]
    answer = recommend(version, [{"history": history}, {"history": ["i01"]}], 4)
    assert numbers(version, answer).count(7) == 1 and answer.counts.tolist() == [4, 4]
    assert "fewer items are new" in answer.warnings.of(0)[0]
    assert not answer.warnings.of(1)
    said = recommend(version, [{"user": "anna"}], 4, exclude_seen=True, new_share=0.5)
    assert "exclude_seen" in said.warnings.of(0)[0]
    assert not recommend(version, [{"user": "anna"}], 4, exclude_seen=True).warnings.of(0)


@pytest.mark.parametrize("source", ["fixed_order", "two_tower"])
def test_lists_are_searched_through_until_they_are_full(ruled, source, monkeypatch):
    """Four candidates for each place at first, and none to spare; then 12."""
    monkeypatch.setattr("serving.answers.recommend._SPARE", 0)
    version = ruled(new_share=1.0)
    all_but_one = [f"i{n:02d}" for n in (*range(6, 11), *range(6))]
    asked = [{"history": all_but_one}, {"history": ["i07"]}]
    answer = recommend(version, asked, 1, source=source)
    assert numbers(version, answer, 0) == [11], "the only one that is new"
    assert answer.widened.tolist() == [True, False]
    assert not answer.warnings.of(0) and not answer.warnings.of(1)


def test_a_cap_by_an_attribute_that_a_version_lacks_is_rejected(pipeline, towers, tmp_path):
    publish(pipeline, towers, tmp_path / "staged")
    lists = ListsConfig(caps={"kind": 1, "weight": 1})
    version = Version.open(pipeline.model_copy(update={"lists": lists}))
    version.items = version.items.drop_columns(["_attribute_kind"])
    answer = recommend(version, [{"place": 5.2}], 3)
    assert answer.counts.tolist() == [3] and answer.names == ("two_tower",)
    (about_cap,) = answer.warnings.of(0)
    assert about_cap.startswith("a cap names kind, which ")


RULES = st.fixed_dictionaries(
    {},
    optional={
        "caps": st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(1, 5), max_size=2),
        "new_share": st.sampled_from([0.1, 0.3, 0.5, 1.0]),
    },
)
SOME = st.lists(st.sampled_from(ITEMS), max_size=5, unique=True)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "history": SOME,
        "exclude": SOME,
        "user": st.sampled_from(["anna", "ben", "who"]),
        "place": st.floats(0, 11),
        "allow": st.sampled_from([{"kind": ["odd"]}, {"size": [0, 1]}]),
    },
)


@given(
    RULES,
    st.lists(QUERIES, min_size=1, max_size=3),
    st.integers(1, 14),
    st.sampled_from(["fixed_order", "two_tower"]),
    st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_served_is_the_whole_ranking_ruled_slowly(
    ruled, monkeypatch, rules, asked, k, source, leave_out
):
    monkeypatch.setattr("serving.answers.recommend._SPARE", 0)
    version = ruled(**rules)
    options = {"source": source, "exclude_seen": leave_out, "now": NOON}
    answer = recommend(version, asked, k, **options)
    whole = recommend(version, asked, 12, rules=False, **options)
    for n, query in enumerate(asked):
        known = {int(item[1:]) for item in query.get("history", ())}
        if query.get("user") == "anna":
            known |= {3, 4, 5}
        data = {"share": rules.get("new_share", 0), "caps": rules.get("caps"), "values": VALUES}
        expected = slow_list(numbers(version, whole, n), k, known=known, **data)
        assert numbers(version, answer, n) == expected
