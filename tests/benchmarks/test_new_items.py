"""What is compared with lists that hold new items: by hand."""

from types import SimpleNamespace

import polars as pl

from benchmarks import new_items

MINUTE = 60_000_000
NOON = 1_699_963_200 * 1_000_000
"""A full five minutes."""


COLUMNS = {"_user": pl.String, "_item": pl.String, "_time": pl.Int64}


def prepared(asked: list[tuple[str, str, int]], moments: list[tuple[str, int]]) -> SimpleNamespace:
    """A log of two events of `a` and one of `b` just before noon, and events of some minutes after it."""
    log = [(user, item, NOON - MINUTE) for user, item in (("x", "a"), ("y", "a"), ("x", "b"))]
    later = [(user, item, NOON + minutes * MINUTE) for user, item, minutes in asked]
    queries = [(user, NOON + minutes * MINUTE) for user, minutes in moments]
    return SimpleNamespace(
        log=lambda: pl.DataFrame(log, schema=COLUMNS, orient="row"),
        asked=lambda: pl.DataFrame(later, schema=COLUMNS, orient="row"),
        queries=lambda case: pl.DataFrame(
            queries, schema={"_user": pl.String, "_moment": pl.Int64}, orient="row"
        ),
    )


def test_what_is_read_most_decays_by_the_hour_and_ends_with_five_minutes():
    """After an hour two events are one, so that two newer ones of a new item are more; what
    happened in the query's own five minutes is not known.
    """
    ready = prepared(
        [("u", "new", 57), ("v", "new", 58), ("v", "b", 61), ("w", "b", 62)],
        [("u", 4), ("v", 64), ("w", 65)],
    )
    events = pl.concat([ready.log(), ready.asked()])
    moments = ready.queries(None)["_moment"].to_numpy()
    assert new_items.popular(events, moments, None) == [
        ["a", "b"],
        ["new", "a", "b"],
        ["b", "new", "a"],
    ]
    assert new_items.popular(events, moments, {"a", "b"})[1:] == [["a", "b"], ["b", "a"]]


def test_the_last_click_is_what_its_user_took_at_the_moment():
    ready = prepared([("u", "new", 3), ("v", "b", 3)], [("v", 3), ("u", 3)])
    assert new_items.last_clicks(ready, None)["_item"].to_list() == ["b", "new"]


def test_a_click_just_30_seconds_after_its_user_s_one_before_has_no_time_of_its_own(
    capsys, monkeypatch
):
    second = MINUTE // 60
    rows = [
        ("u", "a", 0),
        ("u", "b", 30 * second),
        ("u", "c", 61 * second),
        ("v", "a", 91 * second),  # 30 seconds after another user's
        ("v", "b", 121 * second - 1),
        ("v", "c", 151 * second - 1),
    ]
    events = pl.DataFrame(rows[::-1], schema=COLUMNS, orient="row")
    kept = new_items.with_time(events)
    assert sorted(kept.rows()) == sorted([rows[0], rows[2], rows[3], rows[4]])
    monkeypatch.setattr(new_items, "BIG", 2)
    monkeypatch.setattr(new_items, "FIRST", 1)
    new_items.tell_shares(events)  # of the first clicks on a, b and c that on b
    told = capsys.readouterr().out
    assert told.startswith("The time of 0.333 of 6 clicks") and told.endswith("of 0.333\n")
