import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twinspire_core.fusion.exploration import exploring_places, seeds, uniform


def test_numbers_are_those_of_splitmix64():
    """The first outputs for the state 0, as its authors' code gives them: 0xe220a8397b1dcdaf is
    the output after one step, and the seed is added to an item's own.
    """
    first = 0xE220A8397B1DCDAF
    second = _splitmix(first)
    found = uniform(np.zeros(1, np.uint64), np.zeros(1, np.int64))
    assert found[0, 0] == (second >> 11) / 2**53


def _splitmix(state: int) -> int:
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_a_seed_is_the_same_everywhere():
    assert _splitmix(0) == 0xE220A8397B1DCDAF
    assert seeds(["2024-01-01 user 7"]).tolist() == seeds(["x", "2024-01-01 user 7"])[1:].tolist()
    assert len(set(seeds([f"2024-01-0{day} user 7" for day in range(1, 8)]).tolist())) == 7


@given(
    st.floats(0, 1),
    st.integers(1, 60),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5),
)
def test_places_are_spread_and_never_the_first(share, k, numbers):
    places = exploring_places(share, k, np.array(numbers, np.uint64))
    assert places.shape == (len(numbers), k)
    assert not places[:, 0].any()
    for row in places:
        for start in range(1, k):
            for end in range(start + 1, k + 1):
                expected = share * (end - start)
                assert abs(row[start:end].sum() - expected) < 1 + 1e-6, "any stretch has its share"


def test_short_lists_of_many_users_have_their_share_together():
    places = exploring_places(0.02, 10, seeds([f"user {n}" for n in range(20_000)]))
    assert abs(places[:, 1:].mean() - 0.02) < 0.001
    assert places.sum(axis=1).max() == 1
    by_place = places.mean(axis=0)[1:]
    assert by_place.min() > 0.015 and by_place.max() < 0.025, "no place is preferred"


def test_a_share_of_one_leaves_the_first_place_alone():
    assert exploring_places(1.0, 4, seeds(["a"])).tolist() == [[False, True, True, True]]
    assert not exploring_places(0.0, 4, seeds(["a", "b"])).any()
