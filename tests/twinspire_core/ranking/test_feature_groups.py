"""Values of ranking features, worked out by hand."""

import numpy as np

from tests.twinspire_core.ranking.tiny import value
from twinspire_core.fusion.fuse import DEPTH


def test_the_place_in_a_list():
    assert value("place:past") == {
        (0, 0): 1,
        (0, 1): DEPTH,
        (0, 2): 0,
        (1, 0): DEPTH,
        (1, 1): DEPTH,
    }


def test_the_score_in_a_list_is_missing_where_the_list_lacks_the_item():
    found = value("score:trending")
    assert found[0, 0] == 9
    assert found[1, 1] == 4
    assert np.isnan(found[0, 2])


def test_how_many_sources_agree():
    assert value("sources") == {(0, 0): 2, (0, 1): 1, (0, 2): 1, (1, 0): 1, (1, 1): 1}


def test_what_the_user_had_before():
    assert value("personal:7d") == {(0, 0): 1, (0, 1): 0, (0, 2): 3, (1, 0): 0, (1, 1): 0}


def test_days_since_the_user_had_it_are_missing_for_what_is_new():
    found = value("personal_age")
    assert found[0, 2] == 30
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 0])


def test_the_share_counts_what_is_no_longer_in_the_corpus():
    assert value("personal_share")[0, 2] == np.float32(3 / 8)


def test_popularity_is_a_logarithm():
    found = value("popular")
    assert found[1, 0] == np.float32(np.log(8))
    assert found[0, 2] == 0


def test_a_feature_that_cannot_be_made_is_missing():
    assert all(np.isnan(value) for value in value("trending:7d").values())
    assert all(np.isnan(value) for value in value("no such feature").values())
