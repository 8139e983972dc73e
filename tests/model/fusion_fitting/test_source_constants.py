"""Which half-life is chosen, on whom, and over which days."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluation_set import EvaluationSet, prepare
from model.fusion_fitting import source_constants
from model.fusion_fitting.source_constants import ConstantsFit, constants_before
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.contracts.source_constants import ChoiceDay, FittedChoice, SourceConstants
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.personal_counts import PersonalCounts

DAY = date(2024, 5, 20)
ITEMS = list("abcdef")
# By the hour a and b trend, by the week c and d; of other half-lives e and f.
HOUR, WEEK, OTHER = [9, 8, 0, 0, 0, 0], [0, 0, 9, 8, 0, 0], [0, 0, 0, 0, 9, 8]
CORPUS = pa.table(
    {
        "_item": ITEMS,
        "_popular": [1] * 6,
        "_lately": [1] * 6,
        **{
            column: pa.array({"_trending_1h": HOUR, "_trending_7d": WEEK}.get(column, OTHER)).cast(
                pa.float64()
            )
            for column in TRENDING_HALF_LIVES
        },
    }
)


def asked(taken: str, users: int, *, held: str = "", held_users: int = 0) -> EvaluationSet:
    """Users who took some items, and others, held out, who took other ones."""
    truth = [list(taken)] * users + [list(held)] * held_users
    strings = pa.list_(pa.string())
    rows = {
        "_user": [f"u{n}" for n in range(len(truth))],
        "_truth": pa.array(truth, strings),
        "_past": pa.array([[]] * len(truth), strings),
        "_holdout": [False] * users + [True] * held_users,
    }
    return prepare(pa.table(rows), CORPUS)


def fitting(inherited: SourceConstants | None = None, **changes) -> ConstantsFit:
    made = ConstantsFit(
        sources=CandidateSources.of(CORPUS, constants={"trending": "1d"}),
        names=("two_tower", "past", "trending"),
        inherited=inherited or SourceConstants(),
        day=DAY,
        k=2,
        min_users=10,
    )
    return replace(made, **changes)


def days(*found: tuple[int, int, float, float]) -> SourceConstants:
    """Of days so many days ago: users, and what 1h and 7d found."""
    kept = [
        ChoiceDay(day=str(DAY - timedelta(days=ago)), users=users, found={"1h": hour, "7d": week})
        for ago, users, hour, week in found
    ]
    fitted = FittedChoice(choice="3d", metric="recall@2", days=kept)
    return SourceConstants(format=1, sources={"trending": fitted})


@pytest.mark.parametrize(("taken", "choice"), [("ab", "1h"), ("cd", "7d"), ("cda", "7d")])
def test_the_choice_that_finds_most(taken, choice):
    found = fitting().fit(asked(taken, 10))
    assert list(found.sources) == ["trending"], "past has no constant"
    fitted = found.sources["trending"]
    assert fitted.choice == choice and fitted.metric == "recall@2"
    [day] = fitted.days
    assert day.day == str(DAY) and day.users == 10
    assert day.found["1h"] == pytest.approx(len(set(taken) & set("ab")) / len(taken), abs=1e-6)
    assert SourceConstants.parse(found.dump()) == found and found.choices == {"trending": choice}


def test_held_out_users_are_not_looked_at():
    found = fitting().fit(asked("ab", 10, held="cd", held_users=90))
    assert found.choices == {"trending": "1h"} and found.sources["trending"].days[0].users == 10


def test_days_before_count_by_their_users():
    week = days((1, 30, 0.0, 0.5))
    assert fitting(week).fit(asked("ab", 10)).choices["trending"] == "7d", "15 of them beside 10"
    assert fitting(days((1, 10, 0.0, 0.5))).fit(asked("ab", 10)).choices["trending"] == "1h"


def test_only_the_newest_days_count_and_a_day_once():
    old = days((28, 1000, 0.0, 1.0), (27, 1, 0.0, 0.1), (0, 1000, 0.0, 1.0))
    fitted = fitting(old).fit(asked("ab", 10)).sources["trending"]
    assert [one.day for one in fitted.days] == [str(DAY - timedelta(days=27)), str(DAY)]
    assert fitted.choice == "1h"


def test_too_few_users_change_nothing():
    assert fitting().fit(asked("ab", 9)).choices == {"trending": "1d"}, "the default"
    inherited = days((3, 0, 0.0, 0.0))
    fitted = fitting(inherited).fit(asked("ab", 9)).sources["trending"]
    assert fitted.choice == "3d" and len(fitted.days) == 2, "and are remembered"
    assert fitting(inherited).fit(asked("", 0)).sources["trending"].choice == "3d"


@pytest.mark.parametrize("known_by", ["past", "personal"])
def test_where_seen_items_are_left_out_constants_are_fitted_without_them(known_by):
    """All saw a and b, and took a, b and c: of what is new to them the week finds more."""
    seen = Ragged(np.tile([0, 1], 10), np.repeat(np.arange(10), 2), 10)
    known = {"past": seen, "personal": PersonalCounts.of_histories(seen)}
    evaluation_set = replace(asked("abc", 10), **{known_by: known[known_by]})
    fitted = fitting().fit(evaluation_set).sources["trending"]
    assert fitted.choice == "1h" and fitted.metric == "recall@2"
    left_out = replace(evaluation_set, exclude_seen=True)
    fitted = fitting().fit(left_out).sources["trending"]
    assert fitted.choice == "7d" and fitted.metric == "recall@2, seen items left out"


def test_days_of_another_measure_are_forgotten():
    other = days((1, 1000, 0.0, 1.0))
    assert fitting(other, k=1).fit(asked("ab", 10)).choices["trending"] == "1h"


def test_equal_choices_leave_the_default():
    assert fitting().fit(asked("ef", 10)).choices == {"trending": "1d"}


def test_what_counts_before_the_day_is_looked_at():
    names = ("two_tower", "personal", "trending")
    assert constants_before(SourceConstants(), names) == {"personal": "60d", "trending": "1d"}
    before = constants_before(days((1, 5, 0.0, 0.5)), names)
    assert before == {"personal": "60d", "trending": "3d"}


def test_a_large_day_is_looked_at_evenly(monkeypatch):
    monkeypatch.setattr(source_constants, "MAX_QUERIES", 3)
    found = fitting(min_users=1).fit(asked("ab", 100))
    assert found.sources["trending"].days[0].users == 3
    assert np.isclose(found.sources["trending"].days[0].found["1h"], 1)
