"""Which events `twinspire init` proposes as positives, by what logs hold."""

import tomllib

import numpy as np
import polars as pl
import pytest

from tests.any_log.test_any_log import call

ROWS = 3000


def columns_of(folder, *options: str, **columns) -> dict:
    """`[columns]` of the drafted file of a log with these columns."""
    rng = np.random.default_rng(len(columns))
    rows = {
        "user_id": [f"u{n}" for n in rng.integers(0, 50, ROWS)],
        "sku": [f"i{n}" for n in rng.integers(0, 300, ROWS)],
        "ts": np.arange(ROWS) * 7 + 1_700_000_000,
    }
    day = folder / "logs" / "dt=2023-11-14"
    day.mkdir(parents=True)
    pl.DataFrame(rows | columns, strict=False).write_parquet(day / "a.parquet")
    code, _, message = call("init", day.parent, "--out", folder / "shop.toml", *options)
    assert not code, message
    return tomllib.loads((folder / "shop.toml").read_text())["columns"]


@pytest.mark.parametrize(
    ("name", "scale", "liked"),
    [
        ("rating", [1, 2, 3, 4, 5], ["4", "5"]),
        (
            "stars",
            [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0],
            ["3", "3.5", "4", "4.5", "5"],
        ),
        ("ocena", [4, 5, 6, 7, 10], ["6", "7", "10"]),
        ("review_score", [-1, 1], ["1"]),
    ],
)
def test_low_ratings_are_no_positives(name, scale, liked, tmp_path):
    drawn = np.random.default_rng(11).choice(scale, ROWS)
    columns = columns_of(tmp_path, **{name: drawn})
    assert columns["event"] == name and columns["positives"] == liked


def test_the_mean_rating_of_an_item_or_a_rating_beside_a_type_is_no_event(tmp_path):
    rng = np.random.default_rng(2)
    sku = rng.integers(0, 300, ROWS)
    kinds = rng.choice(["view", "purchase"], ROWS)
    columns = columns_of(tmp_path / "a", sku=[f"i{n}" for n in sku], rating=sku % 5)
    assert "event" not in columns
    columns = columns_of(tmp_path / "b", rating=rng.integers(1, 6, ROWS), kind_of=kinds)
    assert columns["event"] == "kind_of" and columns["positives"] == ["purchase", "view"]


@pytest.mark.parametrize(
    ("name", "values", "yes"),
    [
        ("clicked", [0, 1], ["1"]),
        ("is_click", ["0", "1"], ["1"]),
        ("skipped", [False, True], ["false"]),
        ("liked", [False, True], ["true"]),
    ],
)
def test_a_flag_says_which_events_are_positives(name, values, yes, tmp_path):
    drawn = np.array(values)[np.random.default_rng(3).integers(0, 2, ROWS)].tolist()
    columns = columns_of(tmp_path, **{name: drawn})
    assert columns["event"] == name and columns["positives"] == yes


def test_impressions_and_types_that_follow_a_purchase_are_left_out(tmp_path):
    """Each claim is of an item that the user bought; a gift is of any item."""
    rng = np.random.default_rng(4)
    user, sku = rng.integers(0, 50, ROWS), rng.integers(0, 300, ROWS)
    kinds = rng.choice(["impression", "view", "purchase", "gift"], ROWS, p=[0.4, 0.3, 0.2, 0.1])
    bought = np.flatnonzero(kinds == "purchase")[:60]
    later = bought[-1] + 1 + np.arange(60)
    user[later], sku[later], kinds[later] = user[bought], sku[bought], "claim"
    columns = columns_of(
        tmp_path,
        user_id=[f"u{n}" for n in user],
        sku=[f"i{n}" for n in sku],
        event=kinds,
    )
    assert columns["positives"] == ["gift", "purchase", "view"]
    text = (tmp_path / "shop.toml").read_text()
    assert '"claim": follows a purchase of the same item' in text
    assert '"impression": shown, not chosen' in text


def test_try_says_what_it_takes_unasked_and_refuses_to_take_what_is_no_user(tmp_path):
    rng = np.random.default_rng(5)
    rows = {
        "tekijä": rng.integers(0, 60, ROWS),
        "kohde": rng.integers(0, 300, ROWS) + 1000,
        "teko": rng.choice(["katselu", "osto"], ROWS, p=[0.9, 0.1]),
        "at": [f"2024-03-{1 + n // 150:02}T10:00:00Z" for n in range(ROWS)],
    }
    file = tmp_path / "log.csv"
    pl.DataFrame(rows).write_csv(file)
    words = ("try", file, "--yes", "--no-serve", "--days", 1, "--out")
    code, _, message = call(*words, tmp_path / "a", "--item", "kohde", "--time", "nowhere")
    assert code == 2 and "nowhere" in message
    pl.DataFrame({**rows, "tekijä": "x", "kohde": range(ROWS)}).write_csv(file)
    code, _, message = call(*words, tmp_path / "a")
    assert code == 2 and "which column" in message and "--user" in message
    assert not (tmp_path / "a").exists()
