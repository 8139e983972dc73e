"""Lists in a ranker's order, on the circle of twelve items.

The rankers are fitted to score by what the tests say, so that their lists are known: i11, i10, i09…
are popular; anna had i05, i04, i03, and who took these took i08 and i07.
"""

import logging

import numpy as np
import pytest

from serving.version.loaded_version import Version
from tests.serving import rankers
from tests.serving.answers.test_retrieval import files, ids, in_order
from tests.serving.asking import recommend
from tests.serving.conftest import publish
from twinspire_core.errors import UsageError
from twinspire_core.ranking.ranker import Ranker

SOURCES = ("history", "co_occurrence")
ANNA = {"user": "anna"}


@pytest.fixture
def opened(pipeline, towers, tmp_path):
    """Opens a version with a fixed order and the ranker of these files."""

    def make(ranker: dict[str, bytes]) -> Version:
        carried = files(in_order(history=1)) | ranker
        publish(pipeline, towers, tmp_path / "staged", nominators=carried)
        return Version.open(pipeline)

    return make


def by_popularity(**more) -> dict[str, bytes]:
    """The less popular, the better: `popular` is the logarithm of 1 and the events."""
    return rankers.files(SOURCES, ("popular",), lambda rows: -rows[:, 0], **more)


def test_candidates_of_its_sources_are_ranked_and_popular_items_fill_up(opened):
    version = opened(by_popularity())
    answer = recommend(version, [ANNA, {"history": ["i00"]}], 7)
    assert answer.source == "ranked"
    # 3 to 8 events are of two whole numbers of the logarithm: of equal scores the first item.
    assert ids(version, answer) == ["i03", "i04", "i05", "i07", "i08", "i11", "i10"]
    assert ids(version, answer, 1) == ["i00", "i11", "i10", "i09", "i08", "i07", "i06"]
    assert (np.diff(answer.scores, axis=1) <= 0).all()


def test_sources_are_those_that_list_an_item(opened):
    answer = recommend(opened(by_popularity()), [ANNA], 7)
    expected = ["history"] * 3 + ["co_occurrence"] * 2 + ["popular"] * 2
    assert answer.main_names()[0].tolist() == expected
    assert answer.main_sources().to_pylist() == [expected]


def test_a_feature_of_the_towers_is_of_the_query(opened):
    """Nearest first, where the two-tower's own list is the farthest from what is asked for."""
    ranker = rankers.files(("two_tower", "history"), ("place:two_tower",), lambda rows: -rows[:, 0])
    version = opened(ranker)
    requests = [ANNA, {"history": ["i09"]}]
    near = recommend(version, requests, 12, source="two_tower")
    ranked = recommend(version, requests, 12, source="ranked")
    assert ranked.rows.tolist() == near.rows.tolist()


def test_what_is_left_out_and_filters_hold_for_each_query_of_a_batch(opened):
    version = opened(by_popularity())
    requests = [
        ANNA,
        ANNA | {"exclude": ["i03"]},
        ANNA | {"allow": {"kind": "even"}},
        ANNA | {"deny": {"kind": "even"}, "exclude": ["i05"]},
    ]
    together = recommend(version, requests, 5, explain=True)
    assert ids(version, together, 1) == ["i04", "i05", "i07", "i08", "i11"]
    assert ids(version, together, 2) == ["i04", "i08", "i10", "i06", "i02"]
    assert ids(version, together, 3) == ["i03", "i07", "i11", "i09", "i01"]
    for number, request in enumerate(requests):
        alone = recommend(version, [request], 5, explain=True)
        assert alone.rows[0].tolist() == together.rows[number].tolist()
        assert alone.scores[0].tolist() == together.scores[number].tolist()
        assert alone.reasons.of(0) == together.reasons.of(number)
    unseen = recommend(version, [ANNA], 3, exclude_seen=True)
    assert ids(version, unseen) == ["i07", "i08", "i11"]


@pytest.mark.parametrize("serves", ["fixed_order", None])
def test_the_mix_answers_unless_the_gate_says_that_the_ranker_does(opened, serves):
    version = opened(by_popularity(serves=serves))
    assert recommend(version, [ANNA], 3).source == "fixed_order"
    assert recommend(version, [ANNA], 3, source="ranked").source == "ranked"


def test_of_a_newer_format_the_mix_answers_and_says_so_once(opened, caplog):
    """Nothing else of it is read."""
    newer = {"ranker.json": b'{"format": 2, "sources": "other", "features": 3}'}
    with caplog.at_level(logging.WARNING):
        version = opened(by_popularity() | newer)
        for _ in range(2):
            assert recommend(version, [ANNA], 3).source == "fixed_order"
    [warning] = version.warnings
    assert [record.message for record in caplog.records] == [warning]
    assert f"The ranker of {version.id} is not used: ranker.json is of format 2" in warning
    assert "Its fixed order answers instead" in warning
    with pytest.raises(UsageError, match=r"sources two_tower, fixed_order, .*no 'ranked'"):
        recommend(version, [ANNA], 3, source="ranked")


@pytest.mark.parametrize(
    ("sources", "features", "lacking"),
    [
        (SOURCES, ("popular", "moon"), "moon"),
        ((*SOURCES, "neighbours"), ("place:neighbours",), "lists of neighbours"),
    ],
)
def test_what_a_version_does_not_know_is_not_taken_to_be_missing(
    opened, sources, features, lacking
):
    version = opened(rankers.files(sources, features, lambda rows: rows[:, -1]))
    assert recommend(version, [ANNA], 3).source == "fixed_order" and "ranked" not in version.sources
    assert f"it uses {lacking}, which cannot be made from the version" in version.warnings[0]


@pytest.mark.parametrize("untimed", [False, True])
def test_only_a_ranker_that_was_fitted_so_goes_without_times(opened, untimed):
    """Of a history alone nobody knows when; rankers of before take its events for those of now."""
    rows = np.random.default_rng(0).integers(0, 12, (2000, 2)).astype(np.float32)
    rows[::3, 0] = np.nan
    features, told = ("personal_age", "popular"), {"rows": rows, "untimed": untimed}
    carried = rankers.files(
        SOURCES, features, lambda rows: np.nan_to_num(rows[:, 0], nan=-50), **told
    )
    version = opened(carried)
    answer = recommend(version, [{"history": ["i05", "i04"]}], 2, explain=True)
    values = [
        one["value"] for reason in answer.reasons.of(0) for one in reason if "age" in one["feature"]
    ]
    assert len(values) == 2 and all((value is None) == untimed for value in values)


def test_reasons_are_the_features_that_moved_an_item_most(opened):
    """The score is a sum, so that a feature's part in it is its own difference from the mean."""
    features = ("popular", "place:history", "sources", "personal_share")
    ranker = rankers.files(
        SOURCES, features, lambda rows: 3 * rows[:, 0] - 5 * rows[:, 1] + 0.1 * rows[:, 2]
    )
    version = opened(ranker)
    answer = recommend(version, [ANNA], 7, explain=True)
    reasons = answer.reasons.of(0)
    assert [len(of_item) for of_item in reasons] == [3] * 5 + [0] * 2
    first = reasons[0]
    assert [one["feature"] for one in first] == ["place:history", "popular", "sources"]
    assert first[0]["contribution"] > 20 and first[0]["text"] == "purchase history (place 1)"
    assert first[1]["contribution"] < 0 and first[1]["text"] == "bought 5 times by all users"
    assert first[1]["value"] == pytest.approx(np.log(6))
    assert recommend(version, [ANNA], 7).reasons is None
    assert recommend(version, [ANNA], 7, source="fixed_order", explain=True).reasons is None


def test_with_rules_only_what_is_answered_is_explained(opened, monkeypatch):
    version = opened(by_popularity())
    explained = []
    contributions = Ranker.contributions

    def counting(self, values):
        explained.append(len(values))
        return contributions(self, values)

    monkeypatch.setattr(Ranker, "contributions", counting)
    alone = recommend(version, [ANNA], 7, explain=True)
    ruled = recommend(version, [ANNA], 4, explain=True, new_share=0.5)
    assert explained == []
    # The best two that anna had and the best two that are new to her, each with its own reasons.
    assert ids(version, ruled) == ["i03", "i07", "i04", "i08"]
    reasons = alone.reasons.of(0)
    assert ruled.reasons.of(0) == [reasons[place] for place in (0, 3, 1, 4)]
    assert explained == [5, 4]
    assert alone.reasons.of(0, slice(3, 7)) == reasons[3:7]
