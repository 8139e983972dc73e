"""The demo parts a household's list in what it bought before and what is new for it."""

from examples.grocery_demo.households import bought, parted


def test_a_list_is_parted_in_two_and_places_stay():
    items = [{"item": item} for item in "abcd"]
    household = {"_past": ["c"], "_personal": ["a", "x"]}
    assert bought(household) == {"a", "c", "x"}, "also what was bought before the days of a history"
    found = parted(items, bought(household))
    assert found == {
        "Buy again": [(1, {"item": "a"}), (3, {"item": "c"})],
        "New for you": [(2, {"item": "b"}), (4, {"item": "d"})],
    }


def test_a_version_may_know_nothing_of_a_household():
    assert bought({"_past": None}) == set()
    assert bought({"_past": [], "_personal": None}) == set()
