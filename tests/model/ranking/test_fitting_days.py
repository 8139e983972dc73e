from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from model.evaluation.day_queries import BY_HISTORY, NEXT_DAY
from model.evaluation.evaluation_set import DayData, prepare_whole
from model.evaluation.ranked_lists import DayLists, VersionLists
from model.ranking import candidate_rows
from model.ranking.day_orders import fit_day_ranker
from model.ranking.fitting_days import comes_after_gap, rows_of_today, rows_to_fit_on
from tests.model.ranking.asked_day import CORPUS, TODAY, by_chance, queries, ranking_rows, trending
from twinspire_core.config.tables.quality import EvaluationConfig, SourcesConfig
from twinspire_core.contracts.attempts import Gap
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.user_histories import PersonalCounts

USERS, BRAND = 30, "attribute_popular:brand"


def a_day(**serving):
    """Context, queries and lists of a day without a parent's files."""
    evaluation_sets = {NEXT_DAY: prepare_whole(queries("popular", 10, USERS), CORPUS)}
    vectors = np.ones((len(CORPUS), 1), np.float32)
    pipeline = SimpleNamespace(
        sources=SourcesConfig(use=("popular",)),
        evaluation=EvaluationConfig(ks=(5, 10)),
        train=SimpleNamespace(seed=1),
        serving=SimpleNamespace(**{"user_store": True, **serving}),
    )
    ctx = SimpleNamespace(pipeline=pipeline, day=TODAY, parent=None, gaps=())
    place = {NEXT_DAY: np.arange(USERS)}
    encoded = Encoded(distinct=vectors[:USERS], place=place, items=vectors)
    before = VersionLists(ranked={NEXT_DAY: by_chance(USERS)}, encoded=encoded)
    made = {"before": before, "best": None, "version": VersionLists()}
    lists = DayLists(**made, sources=trending("1d"), costly={NEXT_DAY: {}})
    day = DayData(corpus=CORPUS, evaluation_sets=evaluation_sets, events=CORPUS.slice(0, 0))
    return ctx, day, lists


def brands_of_yesterday():
    """Rows with a feature of an attribute that is no longer declared."""
    rng = np.random.default_rng(0)
    taken, values, names = rng.random(6000) < 0.2, rng.random((6000, 2)), ("gain", BRAND)
    lengths, day = np.full(300, 20), date(2024, 5, 19)
    return ranking_rows(lengths, values, names, taken, day, sources=("popular",))


def test_after_a_gap_a_ranker_uses_no_attribute_that_is_no_longer_declared():
    ctx, _, lists = a_day()
    fitted = fit_day_ranker(ctx, lists.sources.tables, [brands_of_yesterday()], None)
    assert "gain" in fitted.names and "attribute_popular:brand" not in fitted.names


@pytest.mark.parametrize(
    ("days", "age", "change", "kept"),
    [
        (28, 6, {}, True),
        (28, 7, {}, False),
        (12, 2, {}, True),
        (12, 3, {}, False),
        (3, 1, {}, False),
        (28, 1, {"mode": "full"}, False),
        (28, 1, {"features": ("gain", "age")}, False),
    ],
)
def test_trees_are_kept_for_a_week_or_a_quarter_of_their_days(days, age, change, kept):
    ctx, _, lists = a_day()
    ctx = SimpleNamespace(**{**vars(ctx), "mode": change.pop("mode", "incremental")})
    rows = [brands_of_yesterday()]
    trees = fit_day_ranker(ctx, lists.sources.tables, rows, None)
    newest = ctx.day - timedelta(days=age)
    fitted_on = [str(newest - timedelta(days=n)) for n in range(days)]
    fitted = trees.described.fitted.model_copy(update={"days": sorted(fitted_on)})
    described = trees.described.model_copy(update={"fitted": fitted, **change})
    before = Ranker(trees.model, described)
    assert (fit_day_ranker(ctx, lists.sources.tables, rows, before) is before) == kept


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_rows_hold_what_was_had_before_and_say_so(exclude_seen):
    """Here all that is taken was had before, on days that only the counts reach."""
    rows = rows_of(exclude_seen=exclude_seen)
    seen = rows.values[:, rows.names.index("seen")]
    assert rows.taken.sum() == 3 * USERS and (seen == 1)[rows.taken].all()


@pytest.mark.parametrize(("least", "by_history"), [(0, 10), (12, 12), (40, 30)])
def test_one_user_of_three_is_asked_for_by_history_too(monkeypatch, least, by_history):
    monkeypatch.setattr(candidate_rows, "LEAST_BY_HISTORY", least)
    rows = rows_of(by_history=True).by_history
    assert rows.tolist() == USERS * [False] + by_history * [True]
    alone = rows_of(by_history=True, user_store=False).by_history
    assert alone.tolist() == USERS * [True]


def rows_of(*, exclude_seen=False, by_history=False, user_store=True):
    ctx, day, lists = a_day(user_store=user_store)
    asked = day.evaluation_sets[NEXT_DAY]
    counted = PersonalCounts.of_histories(asked.truth)
    sets = {NEXT_DAY: replace(asked, personal=counted, exclude_seen=exclude_seen)}
    before = lists.before
    if by_history:
        sets[BY_HISTORY] = sets[NEXT_DAY]
        place = dict.fromkeys(sets, before.encoded.place[NEXT_DAY])
        ranked = dict.fromkeys(sets, before.ranked[NEXT_DAY])
        before = replace(before, ranked=ranked, encoded=replace(before.encoded, place=place))
    return rows_of_today(ctx, replace(day, evaluation_sets=sets), replace(lists, before=before))


@pytest.mark.parametrize(
    ("mode", "parent_day", "gaps", "expected"),
    [
        ("incremental", 19, [], False),
        ("incremental", 17, [], False),  # without logs between
        ("incremental", 17, [(18, 18)], False),
        ("incremental", 16, [(17, 18)], True),
        ("incremental", 15, [(16, 16), (18, 18)], True),
        ("full", 18, [], False),
        ("full", 17, [], True),
    ],
)
def test_after_more_than_a_day_that_is_missing_no_rows_are_made(
    tmp_path, mode, parent_day, gaps, expected
):
    ctx, day, lists = a_day()
    missing = tuple(Gap(date(2024, 5, first), date(2024, 5, last)) for first, last in gaps)
    kept = tmp_path / "measure"
    candidate_rows.write(kept, [brands_of_yesterday()])
    parent = SimpleNamespace(day=date(2024, 5, parent_day), home=str(kept), measure=str(kept))
    ctx = SimpleNamespace(**{**vars(ctx), "mode": mode, "parent": parent, "gaps": missing})
    assert comes_after_gap(ctx) == expected
    days = [rows.day for rows in rows_to_fit_on(ctx, tmp_path, day, lists)]
    assert date(2024, 5, 19) in days and (TODAY in days) == (not expected)
