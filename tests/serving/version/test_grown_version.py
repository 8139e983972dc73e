"""Which lists hold items that came after a version (tests/serving/version/growing_version.py)."""

import numpy as np
import pytest

from serving.version.grown_version import NEW_IN, GrownVersion
from serving.version.loaded_version import Version
from tests.serving import conftest as circle
from tests.serving.asking import recommend, similar
from tests.serving.version.followed_version import HOUR
from tests.serving.version.growing_version import Sender, listed, publish, takers
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.errors import UsageError


@pytest.fixture
def published(pipeline, towers, tmp_path) -> Version:
    return publish(pipeline, towers, tmp_path / "staged")


@pytest.fixture
def grown(published) -> Version:
    """Knows `a`, which sixty users took, each with i03."""
    both = [taken for n in range(60) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = Sender(published).send(*both)
    assert isinstance(version, GrownVersion)
    return version


def test_it_is_listed_after_what_was_taken_with_it_and_leads_on_itself(grown):
    assert listed(grown, 1, "co_occurrence", history=["i03"]) == ["a"]
    assert listed(grown, 1, "co_occurrence", history=["a"]) == ["i03"]
    answer = recommend(grown, [{"history": ["i03"]}], 13)
    assert answer.source == "fixed_order"
    named = dict(zip(grown.ids[answer.rows[0]], answer.sources(0), strict=True))
    assert sorted(named["a"]) == ["co_occurrence", "popular"]


def test_all_other_lists_are_those_of_the_version_as_it_was_published(grown):
    """Also where a request names the new item, and whatever the order of ids."""
    requests = [{"history": ["i05", "a", "i03"]}, {"user": "anna"}, {"history": ["a"]}, {}]
    others = [source for source in grown.sources if source not in NEW_IN]
    assert {"two_tower", "ranked", "history"} <= set(others)
    for source in others:
        of_grown = recommend(grown, requests, 20, source=source, explain=source == "ranked")
        of_published = recommend(grown.published, requests, 20, source=source)
        assert of_grown.rows.tolist() == of_published.rows.tolist(), source
        assert of_grown.rows.max() == 11


def test_within_the_order_other_sources_say_what_they_said(grown):
    """Their shares of an item's score are those of the fixed order without the new item."""
    requests = [{"history": ["i05", "a", "i03"]}, {"user": "anna", "exclude": ["a"]}, {}]
    grown.fixed_order = grown.published.fixed_order
    with_new = recommend(grown, requests, 13, exclude_seen=False)
    without = recommend(grown.published, requests, 12, exclude_seen=False)
    for query in range(len(requests)):
        found = dict(zip(with_new.rows[query], with_new.shares[query], strict=True))
        expected = dict(zip(without.rows[query], without.shares[query], strict=True))
        for row in range(12):
            np.testing.assert_allclose(found[row][:2], expected[row][:2], err_msg=f"{query} {row}")
            assert found[row][0]


def test_a_ranker_has_candidates_of_the_moment_but_for_new_items(published):
    sender = Sender(published)
    sender.send(*takers("a", 3))
    version = sender.send(*takers("i04", 90))
    assert listed(version.published, 1) == ["i04"] == listed(version, 1)
    assert "a" not in listed(version, 20, "ranked")
    beside = [taken for n in range(9) for taken in ((f"u{n}", "i03"), (f"u{n}", "a"))]
    version = sender.send(*beside, ("u0", "i07"))
    assert listed(version, 2, "co_occurrence", history=["i03"]) == ["a", "i07"]
    assert listed(version.published, 1, "co_occurrence", history=["i03"]) == ["i07"]


@pytest.mark.parametrize("source", NEW_IN)
def test_what_a_request_leaves_out_is_left_out(grown, source):
    """Histories, what was had, what is excluded; and what no filter lets through."""
    assert "a" in listed(grown, 13, source, history=["i03"])
    assert "a" not in listed(grown, 13, source, history=["i03"], exclude=["a"])
    seen = recommend(grown, [{"history": ["a", "i03"]}], 13, source=source, exclude_seen=True)
    assert not {3, 12} & set(seen.rows[0])
    for wanted in (
        {"allow": {"kind": "even"}},
        {"deny": {"kind": "even"}},
        {"deny": {"tags": "two"}},
    ):
        found = listed(grown, 13, source, history=["i03"], **wanted)
        assert found and "a" not in found, wanted
    by_argument = recommend(grown, [{}], 13, source=source, deny={"kind": "odd"})
    assert sorted(by_argument.rows[0][by_argument.rows[0] >= 0]) == [0, 2, 4, 6, 8, 10]


def test_rules_on_lists_hold(grown):
    """Caps go by values, of which the new item has none."""
    rules = ListsConfig(caps={"kind": 2})
    for version in (grown, grown.published):
        version.pipeline = version.pipeline.model_copy(update={"lists": rules})
    answer = recommend(grown, [{"history": ["i03"], "user": "dora"}], 13)
    items = grown.ids[answer.rows[0][answer.rows[0] >= 0]].tolist()
    kinds = [int(item[1:]) % 2 for item in items if item != "a"]
    assert "a" in items and sorted(kinds) == [0, 0, 1, 1]


def test_a_list_may_be_of_all_items(grown):
    answer = recommend(grown, [{"history": ["i03"]}], 40, exclude_seen=False)
    assert sorted(answer.rows[0][answer.rows[0] >= 0]) == list(range(13))
    assert "13" in answer.warnings.of(0)[0]
    assert recommend(grown, [{}], 13).warnings.of(0) == ()
    assert listed(grown, 13, "co_occurrence") == [*reversed(circle.ITEMS), "a"], "nothing to go by"


def test_an_item_without_a_vector_is_like_no_other(grown):
    with pytest.raises(UsageError, match="one of the 12"):
        similar(grown, "a", 5)
    assert similar(grown, "i03", 40).rows.max() == 11


def test_an_older_list_of_what_is_taken_together_comes_back(published):
    """What a version says itself knows no new item, and serves while no events come."""
    own = published.candidate_sources.by_name["co_occurrence"]
    published.put_source(own, "co_occurrence")
    sender = Sender(published)
    both = [taken for n in range(60) for taken in ((f"u{n}", "i05"), (f"u{n}", "a"))]
    version = sender.send(*both)
    assert listed(version, 1, "co_occurrence", history=["i05"]) == ["a"]
    sender.updater.update(sender.moment + 4 * HOUR)
    assert listed(version, 2, "co_occurrence", history=["i05", "a"]) == ["i08", "i07"]
