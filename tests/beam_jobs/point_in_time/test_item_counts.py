from datetime import timedelta

import polars as pl
import pyarrow.parquet as pq
import pytest

from beam_jobs import day_plan
from beam_jobs.point_in_time import item_counts, user_shard
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.slow import HISTORY_TYPES, ONE, POSITIVES, Slow
from tests.beam_jobs.features.test_raw_features_job import DAY, digests, rows, run
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES, TRENDING_HALF_LIVES

PERSONAL_DAYS, TRENDING_DAYS = 7, 5
USE = 'use = ["two_tower", "history", "popular"]'
DAY_US = 86_400_000_000


@pytest.fixture(scope="module", params=["America/New_York", "Asia/Tokyo"])
def made(request, tmp_path_factory):
    """A world whose clock changes in its window, and what the job made of it."""
    folder = tmp_path_factory.mktemp("world")
    window = f"personal_days = {PERSONAL_DAYS}"
    world = worlds.make(folder, 1, zone=request.param, sources=USE, window=window)
    run(world, folder / "out", mode="full")
    return world, Slow(world, DAY, known_days=PERSONAL_DAYS), folder / "out"


def decayed(slow, events, moment, half_life):
    ages = [(slow.start(moment) - event["t"]) / ONE for event in events]
    return sum(0.5 ** (age / half_life) for age in ages)


def before(slow, moment, days, kinds):
    first, end = slow.start(moment - days * ONE), slow.start(moment)
    return [e for e in slow.log if e["kind"] in kinds and first <= e["t"] < end]


def test_items_trend_by_what_came_before_the_moment(made):
    _, slow, out = made
    for folder, moment in (("start", DAY), ("end", DAY + ONE)):
        records = rows(out / "corpus" / folder)
        events = before(slow, moment, TRENDING_DAYS, POSITIVES)
        assert any(row["_trending_1h"] for row in records)
        for row in records:
            own = [e for e in events if e["item"] == row["_item"]]
            for column, half_life in TRENDING_HALF_LIVES.items():
                expected = decayed(slow, own, moment, half_life)
                assert row[column] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def users_with_events(slow, out):
    """Rows of users, their events of the window before the row's moment, and that moment."""
    for folder in ("evaluation", "users"):
        for row in rows(out / folder):
            moment = row["_day"] if folder == "evaluation" else DAY + ONE
            events = before(slow, moment, PERSONAL_DAYS, HISTORY_TYPES)
            yield row, [e for e in events if e["user"] == row["_user"]], moment


def test_users_counts_are_those_of_their_own_window(made):
    _, slow, out = made
    for row, own, moment in users_with_events(slow, out):
        if not slow.known(row["_user"], moment):
            assert row["_personal"] == []
            continue
        items = {e["item"] for e in own}
        assert set(row["_personal"]) == items and len(row["_personal"]) == len(items)
        for place, item in enumerate(row["_personal"]):
            of_item = [e for e in own if e["item"] == item]
            for column, half_life in PERSONAL_HALF_LIVES.items():
                expected = decayed(slow, of_item, moment, half_life)
                assert row[column][place] == pytest.approx(expected, rel=1e-6)
            age = (slow.start(moment) - max(e["t"] for e in of_item)) / ONE
            assert row["_personal_age"][place] == pytest.approx(age, rel=1e-6)
        by_60_days = row["_personal_60d"]
        assert by_60_days == sorted(by_60_days, reverse=True)


def test_spans_lead_from_the_first_event_to_the_last(made):
    _, slow, out = made
    spans = []
    for row, own, _ in users_with_events(slow, out):
        for item, span in zip(row["_personal"], row["_personal_span"], strict=True):
            times = [e["t"] for e in own if e["item"] == item]
            assert span == pytest.approx((max(times) - min(times)) / ONE, rel=1e-6)
            spans.append(span)
    assert 0 in spans and max(spans) > 3


def test_days_are_those_of_the_pipelines_zone(made):
    _, slow, out = made
    several = []
    for row, own, _ in users_with_events(slow, out):
        assert (row["_personal_visits"] or 0) == len({e["d"] for e in own})
        for item, days in zip(row["_personal"], row["_personal_days"], strict=True):
            of_item = [e for e in own if e["item"] == item]
            assert days == len({e["d"] for e in of_item})
            several.append(1 < days < len(of_item))
    assert any(several), "twice on one of several days"


def test_who_was_away_for_the_history_window_is_known(made):
    _, slow, out = made
    for folder, expected in (("evaluation", slow.evaluation()), ("users", slow.users())):
        expected = {(row["_user"], row.get("_day")): row for row in expected}
        away = 0
        for row in rows(out / folder):
            wanted = expected.pop((row["_user"], row.get("_day")))
            assert {name: row[name] for name in wanted} == wanted
            away += bool(row["_past"] and not row["last"])
        assert not expected and away


def test_columns_are_those_of_the_schema(made):
    world, _, out = made
    for folder, kind in (
        ("evaluation", feature_schema.evaluation_schema),
        ("users", feature_schema.users_schema),
    ):
        for file in (out / folder).rglob("*.parquet"):
            assert pq.read_schema(file).equals(kind(world.pipeline))


@pytest.mark.parametrize(("folder", "moment"), [("start", DAY), ("end", DAY + ONE)])
def test_items_are_taken_again_within_half_the_window(made, folder, moment):
    """No day of the moment counts, nor what was taken twice on a day."""
    world, slow, out = made
    half = day_plan.known_days(world.pipeline) // 2
    window = before(slow, moment, half, POSITIVES)
    every = [e for e in slow.log if e["kind"] in POSITIVES]
    again_days = []
    for row in rows(out / "corpus" / folder):
        first, gaps = 0, []
        visits = {(e["user"], e["d"]) for e in window if e["item"] == row["_item"]}
        for user, day in visits:
            of_user = (e for e in every if (e["user"], e["item"]) == (user, row["_item"]))
            back = [(day - e["d"]).days for e in of_user if e["d"] < day]
            if min(back, default=half + 1) <= half:
                gaps.append(min(back))
            else:
                first += 1
        if not visits:
            assert row["_buyers"] is row["_again"] is row["_again_days"] is None
            continue
        assert row["_buyers"] == first
        assert row["_again"] == pytest.approx(len(gaps) / len(visits), rel=1e-6)
        assert row["_again_days"] == (
            pytest.approx(sum(gaps) / len(gaps), rel=1e-6) if gaps else None
        )
        again_days += gaps
    assert len(again_days) > 5 and {1, half} & {*again_days}


@pytest.mark.parametrize(("folder", "moment"), [("start", DAY), ("end", DAY + ONE)])
def test_items_are_seen_since_their_first_event_of_the_longer_window(made, folder, moment):
    _, slow, out = made
    first = {}
    for event in before(slow, moment, TRENDING_DAYS, POSITIVES):
        first.setdefault(event["item"], event["t"])
    actual = {row["_item"]: row["_first_seen"] for row in rows(out / "corpus" / folder)}
    assert actual.keys() & first.keys()
    for item, days in actual.items():
        if item in first:
            assert days == pytest.approx((slow.start(moment) - first[item]) / ONE, rel=1e-6)
        else:
            assert days is None


def test_an_item_without_events_has_no_age(made):
    world, _, _ = made
    start = day_plan.start_of(DAY, world.zone)
    table = pl.DataFrame(
        {
            "_item": ["a", "a", "b", "old"],
            "_day": [day_plan.number(DAY) - back for back in (2, 1, 0, 6)],
            "first": [start - 2 * DAY_US, start - DAY_US, start, start - 6 * DAY_US],
        }
    )
    table = table.with_columns(pl.lit(0).alias(name) for name in TRENDING_HALF_LIVES)
    first = item_counts.trending(world.pipeline, table, DAY)
    asked = pl.DataFrame({"_item": ["old", "a", "b"]})
    added = item_counts.add(world.pipeline, asked, first)
    assert added["_first_seen"].to_list() == [None, 2, None]


def test_the_same_bytes_whatever_the_mode_and_the_shards_together(made, tmp_path, monkeypatch):
    world, _, out = made
    monkeypatch.setattr("beam_jobs.features.table_steps.WORKED_ROWS", 1)
    run(world, tmp_path / "again")
    once, again = digests(out, "report.json"), digests(tmp_path / "again", "report.json")
    assert again == {name: once[name] for name in again}


def test_the_most_items_of_a_user_are_the_first_by_60_days():
    past = pl.DataFrame(
        {
            "_user": ["u"] * 5 + ["v"],
            "_item": ["old", "old", "new", "b", "a", "old"],
            "_time": [0, 30 * DAY_US, 59 * DAY_US, 50 * DAY_US, 50 * DAY_US, 0],
            "_day": [0, 30, 59, 50, 50, 0],
        }
    )
    records = user_shard.personal(past, 60 * DAY_US, 3).to_dicts()
    first = records[0]
    assert first["_user"] == "u" and first["_personal"] == ["old", "new", "a"]
    assert first["_personal_60d"][0] == pytest.approx(0.5 + 0.5**0.5)
    assert first["_personal_30d"][0] == pytest.approx(0.25 + 0.5)
    assert first["_personal_all"] == [2, 1, 1] and first["_personal_age"] == [30, 1, 10]
    assert records[1]["_personal"] == ["old"] and records[1]["_personal_60d"] == [0.5]


def test_the_whole_window_is_read(tmp_path):
    """Days before the history window that sources alone look at."""
    long = worlds.make(tmp_path, 3, sources=USE, window="personal_days = 3")
    first = day_plan.make_plan(long.pipeline, DAY, "incremental").first
    long.settings["window"] = "personal_days = 30"
    assert day_plan.make_plan(long.pipeline, DAY, "incremental").first == DAY - timedelta(days=36)
    assert day_plan.make_plan(long.pipeline, DAY, "served").first == DAY - timedelta(days=29)
    long.settings["sources"] = 'use = ["two_tower"]'
    assert day_plan.make_plan(long.pipeline, DAY, "incremental").first == first
