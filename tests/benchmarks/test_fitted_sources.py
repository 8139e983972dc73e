"""What the benchmark of fitted sources shows them."""

from functools import partial

import numpy as np
import polars as pl
import pytest

from benchmarks.fitted_sources.__main__ import run_case
from benchmarks.fitted_sources.cases import next_day
from benchmarks.fitted_sources.moments import DAY, Case, Log, Moment

DAY_NUMBER = 20


@pytest.fixture(scope="module")
def case():
    """A random log of 21 days; users like some items, so that there is something to find."""
    draw = np.random.default_rng(0)
    user = draw.integers(0, 30, 3000)
    item = (user % 5) * 8 + draw.integers(0, 12, 3000)
    events = pl.DataFrame({"u": user, "i": item, "t": draw.integers(0, 21 * DAY, 3000)})
    return Case(
        log=Log.of(events),
        fitted=(18, 19),
        tested=(DAY_NUMBER,),
        history_days=10,
        personal_days=15,
        count_days=5,
        train_days=10,
        corpus_days=10,
        ask=partial(next_day, most=20),
    )


def test_nothing_is_known_of_the_day_that_is_asked_for(case):
    moment = Moment.of(case, DAY_NUMBER)
    assert (moment.sequences.ages > 0).all()
    assert moment.sequences.ages.max() <= case.personal_days
    assert (np.diff(moment.sequences.ages)[np.diff(moment.sequences.items.row) == 0] >= 0).all()
    assert (moment.queries.personal.age > 0).all()
    before = case.log.day < DAY_NUMBER
    lately = case.log.day == DAY_NUMBER - 1
    assert sum(moment.corpus["_lately"].to_pylist()) == np.count_nonzero(lately)
    for number, user in enumerate(moment.asked.user):
        own = set(case.log.item[(case.log.user == user) & before].tolist())
        past = moment.queries.past
        assert set(past.values[past.row == number].tolist()) <= own
        on_day = case.log.item[(case.log.user == user) & (case.log.day == DAY_NUMBER)]
        truth = moment.asked.truth
        assert set(truth.values[truth.row == number].tolist()) == set(on_day.tolist())


def test_figures_of_a_case(case):
    found = run_case(case, ["ials", "co_visitation, 60d"])
    assert found["queries"] == 20
    assert set(found["constants"]) == {"personal", "trending"}
    for trial in found["trials"].values():
        low, high = trial["interval"]
        assert low <= trial["gain"] <= high
        assert trial["with"] == pytest.approx(found["base"] + trial["gain"], abs=2e-4)
