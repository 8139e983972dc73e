"""What is compared with lists that hold new items: by hand."""

from types import SimpleNamespace

import polars as pl

from benchmarks import new_items

MINUTE = 60_000_000
NOON = 1_699_963_200 * 1_000_000
"""A full five minutes."""


def prepared(asked: list[tuple[str, str, int]], moments: list[tuple[str, int]]) -> SimpleNamespace:
    """A log of two events of `a` and one of `b` just before noon, and events of some minutes after it."""
    columns = {"_user": pl.String, "_item": pl.String, "_time": pl.Int64}
    log = [(user, item, NOON - MINUTE) for user, item in (("x", "a"), ("y", "a"), ("x", "b"))]
    later = [(user, item, NOON + minutes * MINUTE) for user, item, minutes in asked]
    queries = [(user, NOON + minutes * MINUTE) for user, minutes in moments]
    return SimpleNamespace(
        log=lambda: pl.DataFrame(log, schema=columns, orient="row"),
        asked=lambda: pl.DataFrame(later, schema=columns, orient="row"),
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
    assert new_items.popular(ready, None, None) == [
        ["a", "b"],
        ["new", "a", "b"],
        ["b", "new", "a"],
    ]
    assert new_items.popular(ready, None, {"a", "b"})[1:] == [["a", "b"], ["b", "a"]]


def test_the_last_click_is_what_its_user_took_at_the_moment():
    ready = prepared([("u", "new", 3), ("v", "b", 3)], [("v", 3), ("u", 3)])
    assert new_items.last_clicks(ready, None)["_item"].to_list() == ["b", "new"]
