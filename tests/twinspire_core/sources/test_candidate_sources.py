import numpy as np
import pyarrow as pa
import pytest

from model.evaluation import ranked_lists
from model.evaluation.evaluation_set import prepare
from model.evaluation.ranked_lists import RankedLists, costly_lists, rank_alone, rank_fixed
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.metrics.list_metrics import contains
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources import co_occurrence
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.co_occurrence import nearest, read_near_items
from twinspire_core.sources.source import Queries, ScoredLists

ITEMS = list("abcdef")
CORPUS = pa.table({"_item": ITEMS, "_popular": [1, 9, 5, 0, 7, 2], "_lately": [4, 0, 3, 2, 0, 0]})
TOGETHER = pa.table(
    {
        "_item": ["a", "c", "gone"],
        "_rows": pa.array([[2, 1], [0, 4, 5], [0]], pa.list_(pa.int32())),
        "_similarities": pa.array([[0.5, 0.25], [0.5, 0.25, 0.125], [0.9]], pa.list_(pa.float32())),
    }
)


def lists(*each: str) -> Ragged:
    return positions(pa.array([list(x) for x in each], pa.list_(pa.string())), pa.array(ITEMS))


def asking(*pasts: str) -> Queries:
    return Queries.of_past(lists(*pasts))


def read(ranked: np.ndarray | ScoredLists) -> list[str]:
    items = ranked.items if isinstance(ranked, ScoredLists) else ranked
    return ["".join(ITEMS[i] for i in row if i >= 0) for row in items]


@pytest.fixture
def sources() -> CandidateSources:
    return CandidateSources.of(CORPUS, {"co_occurrence": TOGETHER})


def test_each_source_by_hand(sources):
    two_tower = ScoredLists.by_place(np.array([[3, 4, 5], [0, 1, 2], [5, 4, 3]]))
    queries = asking("ca", "", "fb").with_given({"two_tower": two_tower})
    names = ("two_tower", "history", "popular", "co_occurrence")
    actual = sources.retrieve(names, queries, 3)
    assert read(actual["two_tower"]) == ["def", "abc", "fed"]
    assert read(actual["history"]) == ["ca", "", "fb"]
    assert read(actual["popular"]) == ["acd"] * 3, "by events of the last day: none are decayed"
    # Of c, taken last: a .5, e .25, f .125; of a, a place before: c .5, b .25, each times exp(-1/3).
    assert read(actual["co_occurrence"]) == ["ace", "", ""]
    assert list(actual) == list(names)
    assert actual["popular"].scores[1].tolist() == [4, 3, 2]
    expected = [0.5, 0.5 * np.exp(-1 / 3), 0.25]
    assert actual["co_occurrence"].scores[0] == pytest.approx(expected), "sums of similarities"
    assert actual["history"].scores[0].tolist() == [1, 0.5, -np.inf], "by place"
    assert actual["two_tower"].scores[0, 0] == 1, "as given"


def test_scores_never_rise_and_lists_have_nothing_that_is_excluded(sources):
    queries = asking("ca", "", "fb", "f", "abcdef")
    for exclude in (None, queries.past):
        passing = np.array([True, False, True, True, True, False])
        for some in (sources, sources.among(passing)):
            actual = some.retrieve(some.without_model, queries, 7, exclude=exclude)
            for name, (items, scores) in actual.items():
                assert ((items >= 0) == np.isfinite(scores)).all(), name
                assert (scores[:, 1:] <= scores[:, :-1]).all(), name
                assert exclude is None or not contains(exclude, items).any(), name
                if some is not sources:
                    assert passing[items[items >= 0]].all(), name


def test_every_source_lists_nothing_where_the_corpus_is_empty():
    """As of the first moment of a log."""
    sources = CandidateSources.of(CORPUS.slice(0, 0), {"co_occurrence": TOGETHER.slice(0, 0)})
    queries = Queries.of_past(positions(pa.array([["a"], []]), pa.array([], pa.string())))
    for name, one in sources.retrieve(("history", "popular", "co_occurrence"), queries, 3).items():
        assert (one.items == -1).all() and np.isneginf(one.scores).all(), name
    assert (sources.filled(np.full((2, 3), -1), 3) == -1).all()


def test_queries_are_taken_and_parted_with_all_that_they_bring():
    given = {"two_tower": ScoredLists.by_place(np.arange(12).reshape(4, 3))}
    queries = Queries(past=lists("ca", "", "fb", "d"), events=np.arange(4), given=given)
    for some in (queries.take(np.array([1, 2])), queries.part(1, 3)):
        assert len(some) == 2 and some.events.tolist() == [1, 2]
        assert read(some.past.padded()) == ["", "fb"]
        assert some.given["two_tower"].items.tolist() == [[3, 4, 5], [6, 7, 8]]


def test_a_source_that_is_not_there_is_silent():
    alone = CandidateSources.of(CORPUS)
    assert "co_occurrence" not in alone
    actual = alone.retrieve(("two_tower", "co_occurrence"), asking("ca"), 2)
    assert read(actual["co_occurrence"]) == read(actual["two_tower"]) == [""]


def test_neighbours_are_rows_in_order_of_id():
    shuffled = ["f", "a", "e", "b", "d", "c"]
    near = read_near_items(TOGETHER, pa.array(shuffled))
    entries = {
        item: slice(near.offsets[row], near.offsets[row + 1]) for row, item in enumerate(shuffled)
    }
    names = {item: "".join(shuffled[x] for x in near.columns[of]) for item, of in entries.items()}
    assert names == {**dict.fromkeys(shuffled, ""), "c": "aef", "a": "cb"}
    assert near.weights[entries["c"]].tolist() == [0.5, 0.25, 0.125]


def test_the_newest_items_in_the_corpus_are_looked_up(monkeypatch):
    monkeypatch.setattr(co_occurrence, "SEEDS", 1)
    near = read_near_items(TOGETHER, pa.array(ITEMS))
    past = lists("xca")  # x is gone
    actual = nearest(past, near, 4, weights=np.array([9, 2, 9], np.float32))
    assert read(actual) == ["aef"]
    assert actual.scores[0, :3].tolist() == [1, 0.5, 0.25]
    assert read(nearest(past, near, 4, weights=np.ones(3, np.float32), exclude=past)) == ["ef"]


def test_one_look_at_the_neighbours_serves_lists_with_seen_items_and_without(sources, monkeypatch):
    monkeypatch.setattr(ranked_lists, "_ASKED_AT_ONCE", 2)
    past = ["ca", "", "fb", "a", "c"]
    rows = {"_user": past, "_truth": [["c"]] * 5, "_past": [list(x) for x in past]}
    split = prepare(pa.table(rows), CORPUS)
    known = costly_lists(sources, split, 2)
    assert list(known) == ["co_occurrence"]
    near = known["co_occurrence"]
    for retrieved, exclude in (
        (near.scored(), None),
        (near.scored(exclude_seen=True), lists(*past)),
    ):
        alone = sources.retrieve(["co_occurrence"], asking(*past), 2, exclude=exclude)
        assert retrieved.items.tolist() == alone["co_occurrence"].items.tolist()
        assert retrieved.scores.tolist() == alone["co_occurrence"].scores.tolist()
    queries = asking(*past).with_given({"co_occurrence": near.scored()})
    given = sources.retrieve(["co_occurrence"], queries, 1)["co_occurrence"]
    assert read(given) == ["a", "", "", "c", "a"], "what is given is taken, as far as is asked"
    order = FixedOrder(weights={"two_tower": 0.1, "co_occurrence": 0.9})
    silent = np.full((5, 100), -1)
    with_model = {**known, "two_tower": RankedLists(silent, silent)}
    ordered = rank_fixed(order, sources, split, with_model, 2)
    together = rank_alone(sources, split, 2, near)
    for ranked in (ordered, together):  # without neighbours b, e and c are what is popular
        assert read(ranked.kept) == ["ac", "be", "be", "cb", "ae"]
        assert read(ranked.excluded) == ["eb", "be", "ec", "cb", "ae"]


def test_only_short_lists_are_filled(sources):
    ranked = np.array([[3, 5], [0, -1], [-1, -1]])
    assert read(sources.filled(ranked, 2)) == ["df", "ab", "be"]
    assert read(sources.filled(ranked, 2, exclude=lists("a", "b", "e"))) == ["df", "ae", "bc"]
    assert read(sources.filled(ranked, 3)) == ["dfb", "abe", "bec"]
    assert read(sources.filled(ranked, 1)) == ["d", "a", "b"]
