"""Rules, held against the plainest way to keep them: one list, one place at a time, in Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twinspire_core.fusion.reranking import (
    Candidates,
    CappedAttribute,
    CappedValues,
    choose,
    holds_share,
    least_new,
)

SHARES = st.sampled_from([0.0, 0.1, 0.29, 0.3, 0.5, 1.0])
CORPUS = 30


def slow_list(ranked, k, *, known=(), share=0, caps=None, values=None):
    """Items of one list; `values` are sets, by attribute and item."""
    listed: list[int] = []
    new_ones = 0

    def fits(item: int) -> bool:
        if item in listed:
            return False
        for name, cap in (caps or {}).items():
            for value in values[name][item]:
                if sum(value in values[name][other] for other in listed) >= cap:
                    return False
        return True

    for place in range(k):
        may = [item for item in ranked if fits(item)]
        new = [item for item in may if item not in known]
        short = new_ones < int(share * (place + 1) + 1e-9)
        if not may:
            break
        listed.append(new[0] if short and new else may[0])
        new_ones += listed[-1] not in known
    return listed


@st.composite
def worlds(draw):
    """Candidates of some queries, with all that rules go by."""
    queries = draw(st.integers(1, 4))
    items = st.lists(st.integers(0, CORPUS - 1), max_size=CORPUS, unique=True)
    of_item = st.sets(st.integers(0, 4), max_size=3)
    values = {
        "kind": [{v} for v in draw(st.lists(st.integers(0, 3), min_size=CORPUS, max_size=CORPUS))],
        "tags": draw(st.lists(of_item, min_size=CORPUS, max_size=CORPUS)),
    }
    return {
        "ranked": [draw(items) for _ in range(queries)],
        "known": [draw(st.sets(st.integers(0, CORPUS - 1))) for _ in range(queries)],
        "values": values,
        "caps": draw(st.dictionaries(st.sampled_from(["kind", "tags"]), st.integers(1, 4))),
        "share": draw(SHARES),
        "k": draw(st.integers(1, 12)),
    }


def table(lists):
    width = max(map(len, lists))
    rows = [[*items, *[-1] * (width - len(items))] for items in lists]
    return np.array(rows, np.int64).reshape(len(lists), width)


def capped(world):
    if not world["caps"]:
        return None
    attributes = []
    for name, cap in world["caps"].items():
        pairs = [(item, v) for item, of in enumerate(world["values"][name]) for v in sorted(of)]
        item, value = np.array(pairs, np.int64).reshape(-1, 2).T
        attributes.append(CappedAttribute(item, value, cap))
    return CappedValues.of(attributes, CORPUS)


def chosen(world):
    """Items of the lists that `choose` makes."""
    caps = capped(world)

    def candidates(items, known):
        is_new = [[item not in had for item in row] for row, had in zip(items, known, strict=True)]
        values = caps.at(items) if caps else np.zeros((*items.shape, 0), np.int64)
        return Candidates(items, np.array(is_new, bool).reshape(items.shape), values)

    ranked = table(world["ranked"])
    rules = {"new_share": world["share"], "caps": caps.caps if caps else None}
    columns = choose(candidates(ranked, world["known"]), world["k"], **rules)
    return [[int(row[c]) for c in cs if c >= 0] for row, cs in zip(ranked, columns, strict=True)]


@given(worlds())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_lists_are_those_of_the_slow_way(world):
    rules = {name: world[name] for name in ("share", "caps", "values")}
    users = zip(world["ranked"], world["known"], strict=True)
    assert chosen(world) == [slow_list(r, world["k"], known=known, **rules) for r, known in users]


def test_the_share_is_rounded_down_and_not_by_the_last_bit():
    assert least_new(0.29, 100)[-1] == 29
    assert least_new(0.3, 50)[[0, 2, 3, 9, 49]].tolist() == [0, 0, 1, 3, 15]
    assert least_new(1, 3).tolist() == [1, 2, 3]


def test_a_share_that_is_not_reached_is_reported():
    is_new = np.array([[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    counts = np.array([4, 4, 2])
    assert holds_share(is_new, counts, 0.3).tolist() == [True, False, True]


def test_no_list_that_keeps_the_caps_is_longer_than_what_is_said():
    kinds = CappedAttribute(np.arange(5), np.array([0, 0, 0, 1, 1]), 2)
    brand = CappedAttribute(np.array([0, 1]), np.array([0, 0]), 1)
    assert CappedValues.of([kinds], 6).most == 2 + 2 + 1
    assert CappedValues.of([brand], 6).most == 1 + 4
    assert CappedValues.of([kinds, brand], 6).most == 5
