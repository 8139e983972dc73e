from datetime import date

import pytest

from index_builder.registry.version_log import Entry, State
from index_builder.registry.versions import find_version
from twinspire_core.errors import BadData, UsageError

A1, A2, A3 = "2017-10-06-aa11aa11", "2017-10-06-ab22ab22", "2017-10-06-ff33ff33"
B, C = "2017-10-07-bb44bb44", "2017-10-08-cc55cc55"
D, E = "2017-10-09-dd66dd66", "2017-09-30-ee77ee77"
# Action, version, what is live then
LOG = [
    *(("publish", A1, A1), ("publish", A2, A2), ("refuse", A3, A2), ("refuse", B, A2)),
    *(("publish", C, C), ("publish", D, D), ("rollback", C, C), ("publish", E, C), ("prune", E, C)),
]


def log_of(*told) -> State:
    def entry(n, action, version, live):
        undone = (D,) if action == "rollback" else ()
        told = {"number": n, "id": str(n), "at": "2017-11-01T00:00:00Z", "reason": ""}
        return Entry(**told, action=action, version=version, live=live, rolled_back=undone)

    return State.of([entry(n, *one) for n, one in enumerate(told, 1)])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *((A1, A1), (A1[:-6], A1), (C, C), ("2017-10-08", C)),
        *(("2017-10-06-f", A3), ("2017-10-07-", B)),  # refused, and one of them alone on its day
        (D[:-1], D),  # rolled back
        ("2017-10-06", A2),  # the newest accepted; the refused one came after it
        (E, E),  # pruned: opening it says so
    ],
)
def test_what_is_meant(text, meant):
    assert find_version(text, log_of(*LOG), "shop") == meant


def test_of_a_day_the_newest_is_the_one_accepted_last():
    again = ("promote", A3, A3)  # despite the gate
    assert find_version("2017-10-06", log_of(*LOG, again), "shop") == A3


def test_a_day_with_several_versions_means_none_where_something_is_to_be_changed():
    log = log_of(*LOG)
    with pytest.raises(UsageError, match=rf"has 3 versions .*: {A3} \(refused\), 2017-10-06-ab22"):
        find_version("2017-10-06", log, "shop", to_change=True)
    assert find_version("2017-10-06-ab", log, "shop", to_change=True) == A2
    for alone in (C, B):  # live, refused
        assert find_version(alone[:10], log, "shop", to_change=True) == alone


@pytest.mark.parametrize(
    ("text", "listed", "not_listed"),
    [
        ("2017-10-06-a", [f"{A1} (accepted)", f"{A2} (accepted)"], ["ff33", "cc55"]),
        ("2017-10", [f"{C} (live)", f"{D} (rolled back)"], ["2017-09-30"]),
        ("2017-10-07", [f"{B} (refused)"], ["2017-10-08"]),
        ("2017-10-09", [f"{D} (rolled back)"], ["2017-10-08"]),
        ("2017-10-10", [f"{C} (live)", f"{B} (refused)"], ["2017-09-30"]),
        ("2017-09-30", [f"{C} (live)"], [E]),
        *((text, [f"{C} (live)"], []) for text in ("2017-10-99", "cc55cc55", "")),
    ],
)
def test_what_is_not_one_version_is_an_error_that_lists_the_candidates(text, listed, not_listed):
    with pytest.raises(UsageError) as error:
        find_version(text, log_of(*LOG), "shop")
    said = str(error.value)
    assert text in said and all(version in said for version in listed), said
    assert not any(version in said.replace(repr(text), "") for version in not_listed), said


def test_many_candidates_are_not_all_listed_and_the_newest_are():
    log = [("publish", f"2017-10-{day:02}-aaaaaaaa", "2017-10-31-aaaaaaaa") for day in range(1, 32)]
    with pytest.raises(
        UsageError, match=r"2017-10-31-aaaaaaaa \(live\), 2017-10-30.* and 23 older"
    ):
        find_version("2017", log_of(*log), "shop")


def test_before_anything_is_published_that_is_said():
    with pytest.raises(UsageError, match="none yet"):
        find_version(str(date(2017, 10, 6)), log_of(), "shop")


@pytest.mark.parametrize("kept", [[1, 3], [2, 3], [1, 1], [2, 1]])
def test_a_log_has_no_gaps(kept):
    data = {"id": "", "at": "2017-11-01T00:00:00Z", "action": "pin", "reason": ""}
    with pytest.raises(BadData, match="without gaps"):
        State.of([Entry(number=n, version="", live="", **data) for n in kept])


def test_versions_that_somebody_made_live_against_the_gate_are_known():
    assert log_of(*LOG).overruled == set()
    assert log_of(*LOG, ("promote", B, B), ("promote", D, D)).overruled == {B, D}
    # One that the gate accepted is promoted without being asked about
    assert log_of(*LOG, ("promote", A1, A1)).overruled == set()
