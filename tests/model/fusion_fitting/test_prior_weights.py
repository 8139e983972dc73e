"""Weights for sources that were not all measured."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from model.fusion_fitting.prior_weights import (
    NO_REPEATS,
    REPEATS,
    STEADY,
    kind_of_log,
    prior_weights,
)
from model.fusion_fitting.stored_lists import DayLists
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.queries import ScoredLists


def test_weights_by_hand():
    """Of repeats: .3 for the two-tower, 1 for the past, .5 for what is popular lately."""
    weights = prior_weights(("two_tower", "past", "popular_lately"), REPEATS)
    np.testing.assert_allclose(weights, np.array([0.3, 1, 0.5]) / 1.8)


def test_sources_that_know_the_same_share_a_weight():
    weights = prior_weights(("past", "personal", "trending", "two_tower"), REPEATS)
    np.testing.assert_allclose(weights, np.array([0.5, 0.5, 0.5, 0.3]) / 1.8)


@pytest.mark.parametrize("kind", [REPEATS, STEADY, NO_REPEATS])
def test_a_source_that_was_not_measured_only_fills_up(kind):
    weights = prior_weights(("two_tower", "popular_lately", "made_up"), kind)
    assert 0 < weights[2] < 1e-4 and weights.sum() == pytest.approx(1)


def listed(name: str, items: list[list[int]]) -> DayLists:
    """Two users, each of whom takes item 7 and item 8."""
    return DayLists(
        day=date(2024, 5, 1),
        two_tower="v1",
        past_events=np.array([3, 3]),
        held_out=np.zeros(2, bool),
        taken=Ragged.of_lengths(np.array([7, 8, 7, 8]), np.array([2, 2])),
        lists={name: ScoredLists.by_place(np.array(items))},
    )


@pytest.mark.parametrize(
    ("name", "items", "kind"),
    [
        ("past", [[7, 1], [2, 3]], REPEATS),
        ("past", [[4, 1], [2, 3]], NO_REPEATS),
        ("personal", [[7, 1], [2, 3]], REPEATS),
        ("personal", [[4, 1], [2, 3]], NO_REPEATS),
        ("trending", [[7, 1], [2, 3]], NO_REPEATS),
    ],
)
def test_the_kind_of_log_is_told_by_a_source_of_what_was_had_before(name, items, kind):
    assert kind_of_log([listed(name, items)]) == kind


@pytest.mark.parametrize(
    ("lately", "all_the_time", "kind"),
    [
        ([[7, 8], [7, 1]], [[7, 1], [2, 3]], NO_REPEATS),
        ([[7, 1], [2, 3]], [[7, 8], [7, 1]], STEADY),
        ([[1, 2], [2, 3]], [[4, 5], [5, 6]], STEADY),
    ],
)
def test_logs_of_new_things_are_told_apart_by_whether_what_is_popular_changes(
    lately, all_the_time, kind
):
    one, other = listed("popular_lately", lately), listed("most_popular", all_the_time)
    assert kind_of_log([replace(one, lists={**one.lists, **other.lists})]) == kind


def test_of_users_held_out_nothing_is_told():
    one = listed("most_popular", [[7, 8], [7, 8]])
    assert kind_of_log([replace(one, held_out=np.ones(2, bool))]) == NO_REPEATS
