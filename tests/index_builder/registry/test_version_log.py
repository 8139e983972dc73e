from datetime import date

import pytest

from index_builder.registry.version_log import Entry, State
from index_builder.registry.versions import find_version
from twinspire_core.errors import BadData, UsageError

LOG = [
    ("publish", "2017-10-06-aa11aa11", "2017-10-06-aa11aa11"),
    ("publish", "2017-10-06-ab22ab22", "2017-10-06-ab22ab22"),
    ("refuse", "2017-10-06-ff33ff33", "2017-10-06-ab22ab22"),
    ("refuse", "2017-10-07-bb44bb44", "2017-10-06-ab22ab22"),
    ("publish", "2017-10-08-cc55cc55", "2017-10-08-cc55cc55"),
    ("publish", "2017-10-09-dd66dd66", "2017-10-09-dd66dd66"),
    ("rollback", "2017-10-08-cc55cc55", "2017-10-08-cc55cc55"),
    ("publish", "2017-09-30-ee77ee77", "2017-10-08-cc55cc55"),
    ("prune", "2017-09-30-ee77ee77", "2017-10-08-cc55cc55"),
]


def log_of(*told) -> State:
    entries = [
        Entry(
            number=n,
            id=str(n),
            at="2017-11-01T00:00:00Z",
            action=action,
            version=version,
            reason="",
            live=live,
            rolled_back=("2017-10-09-dd66dd66",) if action == "rollback" else (),
        )
        for n, (action, version, live) in enumerate(told, 1)
    ]
    return State.of(entries)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2017-10-06-aa11aa11", "2017-10-06-aa11aa11"),
        ("2017-10-06-aa", "2017-10-06-aa11aa11"),
        ("2017-10-06-f", "2017-10-06-ff33ff33"),  # refused
        ("2017-10-07-", "2017-10-07-bb44bb44"),  # refused, and alone on its day
        ("2017-10-09-dd66dd6", "2017-10-09-dd66dd66"),  # rolled back
        ("2017-10-08", "2017-10-08-cc55cc55"),
        ("2017-10-06", "2017-10-06-ab22ab22"),  # the newest accepted; the refused one came after it
        ("2017-10-08-cc55cc55", "2017-10-08-cc55cc55"),
        ("2017-09-30-ee77ee77", "2017-09-30-ee77ee77"),  # pruned: whoever opens it says so
    ],
)
def test_what_is_meant(text, meant):
    assert find_version(text, log_of(*LOG), "shop") == meant


def test_of_a_day_the_newest_is_the_one_accepted_last():
    again = ("promote", "2017-10-06-ff33ff33", "2017-10-06-ff33ff33")  # despite the gate
    assert find_version("2017-10-06", log_of(*LOG, again), "shop") == "2017-10-06-ff33ff33"


def test_a_day_with_several_versions_means_none_where_something_is_to_be_changed():
    log = log_of(*LOG)
    with pytest.raises(
        UsageError, match=r"has 3: 2017-10-06-ff33ff33 \(refused\), 2017-10-06-ab22"
    ):
        find_version("2017-10-06", log, "shop", to_change=True)
    assert find_version("2017-10-06-ab", log, "shop", to_change=True) == "2017-10-06-ab22ab22"
    for day, alone in (("2017-10-08", "cc55cc55"), ("2017-10-07", "bb44bb44")):  # live, refused
        assert find_version(day, log, "shop", to_change=True) == f"{day}-{alone}"


@pytest.mark.parametrize(
    ("text", "listed", "not_listed"),
    [
        (
            "2017-10-06-a",
            ["2017-10-06-aa11aa11 (accepted)", "2017-10-06-ab22ab22 (accepted)"],
            ["ff33", "cc55"],
        ),
        (
            "2017-10",
            ["2017-10-08-cc55cc55 (live)", "2017-10-09-dd66dd66 (rolled back)"],
            ["2017-09-30"],
        ),
        ("2017-10-07", ["2017-10-07-bb44bb44 (refused)"], ["2017-10-08"]),
        ("2017-10-09", ["2017-10-09-dd66dd66 (rolled back)"], ["2017-10-08"]),
        (
            "2017-10-10",
            ["2017-10-08-cc55cc55 (live)", "2017-10-07-bb44bb44 (refused)"],
            ["2017-09-30"],
        ),
        ("2017-09-30", ["2017-10-08-cc55cc55 (live)"], ["2017-09-30-ee77ee77"]),
        ("2017-10-99", ["2017-10-08-cc55cc55 (live)"], []),
        ("cc55cc55", ["2017-10-08-cc55cc55 (live)"], []),
        ("", ["2017-10-08-cc55cc55 (live)"], []),
    ],
)
def test_what_is_not_one_version_is_an_error_that_lists_the_candidates(text, listed, not_listed):
    with pytest.raises(UsageError) as error:
        find_version(text, log_of(*LOG), "shop")
    assert all(version in str(error.value) for version in listed), error.value
    assert not any(version in str(error.value).replace(repr(text), "") for version in not_listed), (
        error.value
    )
    assert text in str(error.value)


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
    entries = [
        Entry(
            number=n, id="", at="2017-11-01T00:00:00Z", action="pin", version="", reason="", live=""
        )
        for n in kept
    ]
    with pytest.raises(BadData, match="without gaps"):
        State.of(entries)


def test_versions_that_somebody_made_live_against_the_gate_are_known():
    refused, rolled_back = "2017-10-07-bb44bb44", "2017-10-09-dd66dd66"
    assert log_of(*LOG).overruled == set()
    promoted = log_of(*LOG, ("promote", refused, refused), ("promote", rolled_back, rolled_back))
    assert promoted.overruled == {refused, rolled_back}
    # One that the gate accepted is promoted without being asked about
    accepted = "2017-10-06-aa11aa11"
    assert log_of(*LOG, ("promote", accepted, accepted)).overruled == set()
