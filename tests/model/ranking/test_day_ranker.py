from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from model.evaluation.day_data import BY_HISTORY, NEXT_DAY, DayData
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.version_evaluation import ParentEvaluation
from model.ranking import day_rows
from model.ranking.day_ranker import DayRanker, comes_after_gap
from model.ranking.ranking_rows import RankingRows
from tests.model.ranking.asked_day import CORPUS, TODAY, by_chance, queries, trending
from twinspire_core.config.tables.quality import EvaluationConfig, SourcesConfig
from twinspire_core.contracts.attempts import Gap
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.sources.personal_counts import PersonalCounts

USERS = 30


def day_ranker(user_store=True):
    evaluation_sets = {NEXT_DAY: prepare_whole(queries("popular", 10, USERS), CORPUS)}
    vectors = np.ones((len(CORPUS), 1), np.float32)
    pipeline = SimpleNamespace(
        sources=SourcesConfig(use=("popular",)),
        evaluation=EvaluationConfig(ks=(5, 10)),
        train=SimpleNamespace(seed=1),
        serving=SimpleNamespace(user_store=user_store),
    )
    place = {NEXT_DAY: np.arange(USERS)}
    return DayRanker(
        ctx=SimpleNamespace(pipeline=pipeline, day=TODAY, parent=None, gaps=()),
        day=DayData(corpus=CORPUS, evaluation_sets=evaluation_sets, events=CORPUS.slice(0, 0)),
        sources=trending("1d"),
        parent=ParentEvaluation(
            lists={NEXT_DAY: by_chance(USERS)},
            encoded=Encoded(distinct=vectors[:USERS], place=place, items=vectors),
        ),
        stored=(),
        known={},
    )


def brands_of_yesterday():
    """Rows with a feature of an attribute that is no longer declared."""
    rng = np.random.default_rng(0)
    return RankingRows(
        day=date(2024, 5, 19),
        sources=("popular",),
        lengths=np.full(300, 20),
        by_history=np.zeros(300, bool),
        taken=rng.random(6000) < 0.2,
        weights=np.ones(6000, np.float32),
        names=("gain", "attribute_popular:brand"),
        values=rng.random((6000, 2)).astype(np.float32),
    )


def test_after_a_gap_a_ranker_goes_by_no_attribute_that_is_no_longer_declared():
    """Of the day itself there are no rows then, and a server could not make the feature."""
    fitted = day_ranker().fit([brands_of_yesterday()])
    assert "gain" in fitted.names and "attribute_popular:brand" not in fitted.names


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_rows_hold_what_was_had_before_and_say_so(exclude_seen):
    """Here all that is taken was had before, on days that only the counts reach."""
    rows = rows_of(exclude_seen=exclude_seen)
    seen = rows.values[:, rows.names.index("seen")]
    assert rows.taken.sum() == 3 * USERS and (seen == 1)[rows.taken].all()


def test_without_stored_users_rows_are_those_of_histories_alone():
    assert rows_of(by_history=True).by_history.tolist() == USERS * [False] + USERS * [True]
    assert rows_of(by_history=True, user_store=False).by_history.tolist() == USERS * [True]


@pytest.mark.parametrize(("least", "by_history"), [(0, 10), (12, 12), (40, 30)])
def test_one_user_of_three_is_asked_for_by_history_too(monkeypatch, least, by_history):
    monkeypatch.setattr(day_rows, "LEAST_BY_HISTORY", least)
    rows = rows_of(by_history=True).by_history
    assert rows.tolist() == USERS * [False] + by_history * [True]
    alone = rows_of(by_history=True, user_store=False).by_history
    assert alone.tolist() == USERS * [True]


def rows_of(*, exclude_seen=False, by_history=False, user_store=True):
    day = day_ranker(user_store=user_store)
    asked = day.day.evaluation_sets[NEXT_DAY]
    counted = PersonalCounts.of_histories(asked.truth)
    sets = {NEXT_DAY: replace(asked, personal=counted, exclude_seen=exclude_seen)}
    parent = day.parent
    if by_history:
        sets[BY_HISTORY] = sets[NEXT_DAY]
        place = dict.fromkeys(sets, parent.encoded.place[NEXT_DAY])
        lists = dict.fromkeys(sets, parent.lists[NEXT_DAY])
        parent = replace(parent, lists=lists, encoded=replace(parent.encoded, place=place))
    whole = replace(day.day, evaluation_sets=sets)
    (rows,) = replace(day, day=whole, parent=parent).rows_to_fit_on()
    return rows


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
def test_after_more_than_a_day_that_is_missing_no_rows_are_made(mode, parent_day, gaps, expected):
    day = day_ranker()
    missing = tuple(Gap(date(2024, 5, first), date(2024, 5, last)) for first, last in gaps)
    parent = SimpleNamespace(day=date(2024, 5, parent_day))
    changed = {**vars(day.ctx), "mode": mode, "parent": parent, "gaps": missing}
    day = replace(day, ctx=SimpleNamespace(**changed), stored=[brands_of_yesterday()])
    assert comes_after_gap(day.ctx) == expected
    assert (TODAY in [rows.day for rows in day.rows_to_fit_on()]) == (not expected)
