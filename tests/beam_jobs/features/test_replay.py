from dataclasses import replace
from datetime import timedelta

import pytest

from beam_jobs import day_plan, hashing
from beam_jobs.point_in_time import job
from tests.beam_jobs.features import world as worlds
from tests.beam_jobs.features.slow import Slow
from tests.beam_jobs.features.test_raw_features_job import DAY, digests, rows, run
from twinspire_core.config.source_registry import SOURCE_NAMES

DAYS = [DAY - timedelta(days=n) for n in (3, 2, 1)]
MADE_ON = {DAYS[0]: DAYS[0], DAYS[1]: DAYS[0], DAYS[2]: DAYS[2]}
"""By replayed day, the day at whose start its sources' tables are made."""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """A world, what the job made of its last day, and what it makes of the replayed days themselves."""
    folder = tmp_path_factory.mktemp("world")
    settings = {"sources": f"use = {list(SOURCE_NAMES)}", "train_days": "9"}
    world = worlds.make(folder, 3, window="personal_days = 6", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(day_plan, "TABLE_DAYS", 2)
        run(world, folder / "out", mode="full")
    for day in DAYS:
        run(world, folder / str(day), day=day)
    return world, folder


@pytest.mark.parametrize("day", DAYS)
def test_users_are_as_of_the_start_of_the_replayed_day(replayed, day):
    _, folder = replayed
    of_day = [row for row in rows(folder / str(day) / "evaluation") if row["_day"] == day]
    trained = [row for row in of_day if not row["_holdout"]]
    assert 3 < len(trained) < len(of_day)
    records = rows(folder / "out" / "replay" / f"dt={day}" / "evaluation")
    assert records == sorted(trained, key=lambda row: row["_user"])
    assert any(row["_personal_span"] for row in records)


@pytest.mark.parametrize("day", DAYS)
def test_items_are_as_of_the_start_of_the_replayed_day(replayed, day):
    world, folder = replayed
    records = rows(folder / "out" / "replay" / f"dt={day}" / "corpus")
    own = rows(folder / str(day) / "corpus" / "start")
    shared = {"_item", "_popular", "_lately", "_trending_1h", "_first_seen", "_attribute_tags"}
    assert records[0].keys() >= shared and not {"_name", "price"} & records[0].keys()
    if MADE_ON[day] != day:
        log = Slow(world, day - timedelta(days=1)).log
        taken = {event["item"] for event in log if event["kind"] in ("buy", "gift")}
        own = [row for row in own if row["_item"] in taken]
    assert records == [{name: row[name] for name in records[0]} for row in own]


@pytest.mark.parametrize("day", DAYS)
def test_tables_of_sources_are_as_of_their_day_and_never_newer(replayed, day):
    _, folder = replayed
    hashes = digests(folder / "out" / "replay" / f"dt={day}")
    tables = {name for name in hashes if name.split("/")[0] not in ("evaluation", "corpus")}
    assert {name.split("/")[1] for name in tables} <= {"start"}
    if MADE_ON[day] != day:
        assert not tables
        return
    own = digests(folder / str(day))
    assert {name.split("/")[0] for name in tables} >= {"co_occurrence", "sequences"}
    assert {name: hashes[name] for name in tables} == {name: own[name] for name in tables}


def test_of_a_replayed_day_some_users_are_drawn(replayed, tmp_path, monkeypatch):
    world, folder = replayed
    monkeypatch.setattr(job, "REPLAYED_USERS", 7)  # 3 of each of 3 days
    run(replace(world, settings={**world.settings, "shards": "5"}), tmp_path / "few", mode="full")
    for day in DAYS:
        every = rows(folder / "out" / "replay" / f"dt={day}" / "evaluation")
        users = [row["_user"] for row in every]
        lots = hashing.sampling_hashes(users, str(day)).tolist()
        drawn = [user for _, user in sorted(zip(lots, users, strict=True))[-3:]]
        records = rows(tmp_path / "few" / "replay" / f"dt={day}" / "evaluation")
        assert records == [row for row in every if row["_user"] in drawn]


def test_a_short_log_is_replayed_in_its_newest_third(replayed):
    world, _ = replayed
    plan = day_plan.make_plan(world.pipeline, DAY, "incremental", replays=True)
    assert plan.replay == tuple(DAYS)
    # Co-occurrence of its first day looks at the nine days before it.
    assert plan.first == DAYS[0] - timedelta(days=9)
    logged = [DAY - timedelta(days=n) for n in (0, 2, 3, 5, 6)]
    # Seven days, of which the newest third has no logs of the day before.
    assert day_plan.days_to_replay(world.pipeline, plan, logged) == (DAYS[1],)
    assert day_plan.days_to_replay(world.pipeline, plan, [DAY]) == ()
    assert not day_plan.make_plan(world.pipeline, DAY, "incremental").replay
