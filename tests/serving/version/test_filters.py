"""Filters by attributes, against brute force, on the circle of twelve items and on random ones."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from serving.answers import filtered_search
from serving.answers.filtered_search import Seen, search_without
from serving.requests.json_values import Refused
from serving.version import filters
from serving.version.filters import Attributes, Filter
from serving.version.loaded_version import Version
from tests.serving.answers.test_retrieval import ALL, files, in_order
from tests.serving.asking import recommend, similar
from tests.serving.conftest import ATTRIBUTES, publish
from tests.serving.http.conftest import shop
from twinspire.cli.main import app
from twinspire_core.errors import UsageError
from twinspire_core.search.index import ExactIndex, Settings

ITEMS = range(12)


def listed(answer, query: int = 0) -> list[int]:
    return answer.rows[query][: answer.counts[query]].tolist()


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        ({"allow": {"kind": "odd"}}, {1, 3, 5, 7, 9, 11}),
        ({"allow": {"stock": True}}, {0, 1, 2, 4, 5}),
        ({"allow": {"stock": ["true"]}}, {0, 1, 2, 4, 5}),
        ({"deny": {"stock": False}}, {0, 1, 2, 3, 4, 5}),
        ({"allow": {"tags": ["two", "three"]}}, {0, 2, 3, 4, 6, 8, 9, 10}),
        ({"deny": {"tags": ["two", "three"]}}, {1, 5, 7, 11}),
        ({"allow": {"tags": "three"}, "deny": {"tags": "two"}}, {3, 9}),
        ({"allow": {"size": 2}}, {8, 9, 10, 11}),
        ({"allow": {"size": ["1", 2.0]}}, {4, 5, 6, 7, 8, 9, 10, 11}),
        ({"allow": {"weight": 0.3}}, {3}),
        ({"allow": {"since": "2024-01-02"}}, {6, 7, 8, 9, 10, 11}),
        ({"allow": {"kind": "even", "size": [0, 1]}, "deny": {"tags": "three"}}, {2, 4}),
        ({"allow": {"size": 2.5}}, set()),
        ({"allow": {"size": 10**30}}, set()),
        ({"allow": {"weight": 10**400}}, set()),
        ({"allow": {"size": float("inf")}}, set()),
        ({}, set(ITEMS)),
    ],
)
def test_what_passes(version, wanted, passing):
    answer = recommend(version, [{"place": 3.2, **wanted}, {"place": 3.2}], 12)
    assert set(listed(answer)) == passing
    assert set(listed(answer, 1)) == set(ITEMS), "each request has a filter of its own"
    everybody = recommend(version, [{"place": 3.2}], 12, **wanted)
    assert listed(everybody) == listed(answer), "and all may have one"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            {"allow": {"kid": "odd"}},
            "allow must name attributes of items; found 'kid'; did you mean 'kind'",
        ),
        ({"deny": {"zzz": 1}}, "known: kind, stock, tags"),
        ({"allow": {"kind": []}}, "at least one value for kind"),
        ({"allow": {"kind": [None]}}, "strings, numbers, true or false; found None"),
        ({"allow": {"kind": [{"a": 1}]}}, "strings, numbers, true or false"),
        ({"deny": {"stock": "maybe"}}, "deny must have true or false for stock; found 'maybe'"),
        ({"allow": {"size": "large"}}, "allow must have numbers for size; found 'large'"),
        ({"allow": {"size": True}}, "numbers for size"),
        ({"allow": {"size": "nan"}}, "numbers for size; found 'nan'"),
        ({"allow": {"weight": float("nan")}}, "strings, numbers, true or false"),
        ({"allow": {"kind": "\ud800"}}, "allow"),
    ],
)
def test_filters_that_make_no_sense(version, wanted, said):
    with pytest.raises(Refused, match=said) as caught:
        recommend(version, [{}, {"place": 1, **wanted}], 3)
    assert caught.value.row == 1
    with pytest.raises(UsageError, match=said):
        recommend(version, [{}], 3, **wanted)


def test_an_attribute_that_the_version_does_not_carry_yet(version, pipeline):
    version.items = version.items.drop(["_attribute_size"])
    with pytest.raises(Refused, match=r"names size, which .* published before corpus\.attributes"):
        recommend(version, [{"allow": {"size": 1}}], 3)


def test_notes_say_what_a_filter_leaves(version):
    requests = [
        {"allow": {"kind": "od"}},
        {"allow": {"size": 1}},
        {"exclude": ["i00"]},
        {"allow": {"kind": "odd"}},
    ]
    answer = recommend(version, requests, 6)
    assert (
        answer.warnings.of(0)[0] == f"no item of {version.id} has kind \"od\"; did you mean 'odd'?"
    )
    assert answer.counts.tolist() == [0, 4, 6, 6]
    assert "4 of 12 items" in answer.warnings.of(1)[0]
    assert "pass the filter; 6 were asked for" in answer.warnings.of(1)[0]
    assert answer.warnings.of(2) == answer.warnings.of(3) == ()
    short = recommend(version, [{"allow": {"size": 0}, "exclude": ["i00"]}], 4)
    assert short.warnings.of(0) == ("3 items instead of 4: the rest was seen or excluded",)


def test_notes_are_few_however_many_values_no_item_has(version, monkeypatch):
    looked = []
    real = filters.nearest_names
    monkeypatch.setattr(
        filters, "nearest_names", lambda *given: looked.append(given) or real(*given)
    )
    values = ["od" + "d" * n for n in range(2, 300)]
    said = recommend(version, [{"allow": {"kind": [*values, "odd"]}}], 3).warnings.of(0)
    assert len(said) == 6 and all(len(note) < 150 for note in said)
    assert "did you mean 'odd'" in said[0]
    assert said[-1] == "nor has any item 293 other values of the filter"
    assert len(looked) == 1, "each one takes as long as a search"
    monkeypatch.setattr(filters, "COMPARED", 11)
    items = version.items.drop(["_attribute_kind"])
    items = items.append_column("_attribute_kind", [[f"k{n}" for n in range(12)]])
    wanted = Filter(allow='{"kind": ["k"]}')
    assert "mean" not in Attributes(items, "v").select(wanted).warnings[0]


def test_similar_items_among_those_that_pass(version):
    assert set(listed(similar(version, "i04", 2, allow={"kind": "even"}))) == {2, 6}
    assert set(listed(similar(version, "i04", 12, deny={"kind": "even"}))) == {1, 3, 5, 7, 9, 11}


def test_the_commands_filter(version, pipeline_file):
    def run_command(*arguments: str) -> dict:
        done = CliRunner().invoke(app, [arguments[0], str(pipeline_file), "--json", *arguments[1:]])
        return json.loads(done.stdout) if done.exit_code == 0 else {"error": str(done.exception)}

    filters = ["--allow", "tags=two", "--allow", "tags=three", "--deny", "size=0", "-k", "12"]
    found = run_command("recommend", "--user", "anna", *filters)
    assert {item["item"] for item in found["items"]} == {"i04", "i06", "i08", "i09", "i10"}
    assert found["allow"] == {"tags": ["three", "two"]} and found["deny"] == {"size": ["0"]}
    near = run_command("similar", "--item", "i05", *filters)["items"]
    assert {item["item"] for item in near} == {"i04", "i06", "i08", "i09", "i10"}
    assert run_command("recommend", "--user", "anna", "--allow", "tags")["error"].startswith(
        "Write a filter as ATTRIBUTE=VALUE"
    )
    misspelt = run_command("recommend", "--user", "anna", "--deny", "tag=two")["error"]
    assert misspelt == "deny must name attributes of items; found 'tag'; did you mean 'tags'?"


values = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["odd", "even", "none"]),
        "size": st.lists(st.integers(0, 3), min_size=1),
        "tags": st.lists(st.sampled_from(["two", "three"]), min_size=1),
        "stock": st.booleans(),
    },
)


def passes(item: int, allow: dict, deny: dict) -> bool:
    """The rule, spelt out."""

    def has(name: str, wanted) -> bool:
        own = ATTRIBUTES[name][item]
        own = own if isinstance(own, list) else [] if own is None else [own]
        return bool(set(own) & set(wanted if isinstance(wanted, list) else [wanted]))

    return all(has(*one) for one in allow.items()) and not any(has(*one) for one in deny.items())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    allow=values,
    deny=values,
    k=st.integers(1, 13),
    seen=st.sets(st.sampled_from(ITEMS)),
    user=st.sampled_from(["anna", "who"]),
)
def test_every_source_lists_what_passes_in_its_own_order(shared, allow, deny, k, seen, user):
    asked = {"user": user, "exclude": [f"i{n:02d}" for n in seen]}
    filtered = [{**asked, "allow": allow, "deny": deny}, asked]
    own = {}
    for source in ALL:
        plain = recommend(shared, [asked], 12, source=source)
        own[source] = [
            row
            for row, main in zip(listed(plain), plain.main_names()[0], strict=False)
            if main == source
        ]
        expected = [row for row in listed(plain) if passes(row, allow, deny)][:k]
        answer = recommend(shared, filtered, k, source=source)
        assert listed(answer) == expected, source
        assert listed(answer, 1) == listed(plain)[:k]
    assert listed(recommend(shared, filtered, k)) == _fused(shared, own, allow, deny, user)[:k]


def _fused(
    version: Version, own: dict[str, list[int]], allow: dict, deny: dict, user: str
) -> list[int]:
    """The fixed order by its formula: weights by place among what passes; then what is popular."""
    weights = version.fixed_order.weights
    scores = dict[int, float]()
    for source, rows in own.items():
        for place, row in enumerate(row for row in rows if passes(row, allow, deny)):
            scores[row] = scores.get(row, 0) + np.float32(weights[source]) / np.float32(
                1 + place / 60
            )
    return sorted(scores, key=lambda row: (-np.float32(scores[row]), row))


@pytest.fixture(scope="module")
def shared(towers, tmp_path_factory) -> Version:
    home = tmp_path_factory.mktemp("shared")
    weights = {"co_occurrence": 0.33, "history": 0.27, "two_tower": 0.7, "popular": 0.3}
    pipeline = shop(home)
    publish(pipeline, towers, home / "staged", nominators=files(in_order(**weights)))
    return Version.open(pipeline)


@st.composite
def searches(draw):
    """Vectors of small whole numbers, so that scores are exact and ties many; heavy users have seen
    nearly all.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items, queries = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    vectors = rng.integers(-3, 4, (items, 3)).astype(np.float32)
    asked = rng.integers(-3, 4, (queries, 3)).astype(np.float32)
    share = draw(st.sampled_from([0, 0.05, 0.5, 0.95, None]))
    passing = None if share is None else rng.random(items) < share
    seen = np.argwhere(rng.random((queries, items)) < draw(st.sampled_from([0, 0.1, 0.9])))
    k = draw(st.integers(1, 5) | st.integers(1, 70))
    return vectors, asked, passing, Seen(seen[:, 0], seen[:, 1]), k


@pytest.mark.parametrize("few", [0, 20_000])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(case=searches())
def test_exact_search_among_what_passes_is_brute_force(few, case):
    vectors, asked, passing, seen, k = case
    index = ExactIndex(vectors, Settings(kind="exact", k=10))
    with pytest.MonkeyPatch.context() as patch:
        # 0: also where few pass, the search is widened first
        patch.setattr(filtered_search, "_FEW", few)
        patch.setattr(filtered_search, "_SPARE", 1)
        patch.setattr(filtered_search, "_WIDEST", 2)
        hits = search_without(index, asked, k, seen, passing)
    scores = (asked @ vectors.T).astype(float)
    if passing is not None:
        scores[:, ~passing] = -np.inf
    scores[seen.query, seen.row] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    for query, rows in enumerate(hits.rows):
        expected = [row for row in order[query] if np.isfinite(scores[query, row])][:k]
        assert rows.tolist() == expected + [-1] * (min(k, len(vectors)) - len(expected))
        np.testing.assert_array_equal(hits.scores[query][: len(expected)], scores[query, expected])
        assert np.isnan(hits.scores[query][len(expected) :]).all()


@pytest.mark.parametrize("share", [0.002, 0.05, 0.5])
def test_an_approximate_search_is_widened_until_there_are_enough(share, monkeypatch):
    from twinspire_core.search.scann_index import ScannIndex

    monkeypatch.setattr(filtered_search, "_FEW", 0)
    rng = np.random.default_rng(1)
    vectors, asked = (rng.normal(size=(n, 8)).astype(np.float32) for n in (3000, 30))
    index = ScannIndex.build(vectors, Settings(kind="quantised", k=10, rescored=30))
    near = np.argsort(asked @ vectors.T, axis=1)
    passing = np.zeros(3000, bool)
    passing[near[0, : int(3000 * share)]] = True  # those that are farthest from the first query
    seen = Seen(np.repeat(np.arange(30), 3), np.flatnonzero(passing)[rng.integers(0, 6, 90)])
    hits = search_without(index, asked, 10, seen, passing)
    there = passing.sum() - np.array([len(set(seen.row[seen.query == q])) for q in range(30)])
    np.testing.assert_array_equal((hits.rows >= 0).sum(1), np.minimum(there, 10))
    for query, rows in enumerate(hits.rows):
        rows = rows[rows >= 0]
        assert passing[rows].all() and len(set(rows)) == len(rows)
        assert not set(rows) & set(seen.row[seen.query == query])
    assert hits.widened[0] == (share == 0.5), "few that pass are compared at once"
    assert hits.widened.sum() < 30
