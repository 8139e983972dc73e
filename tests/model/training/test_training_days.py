from datetime import date

import numpy as np

from model.losses.sampling_probability import StreamingFrequency
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from model.training.train import newest_histories

MONDAY, TUESDAY, WEDNESDAY = (date(2024, 5, day) for day in (6, 7, 8))


def _numbered(tiny, n, first):
    """Distinct rows: their users are numbers from `first` on."""
    rows = tiny.rows(n)
    rows.user[:] = np.arange(first, first + n)
    return rows


def test_the_last_day_comes_after_all_passes_over_the_others(tiny):
    told: list[str] = []
    pipeline = tiny.pipeline(train={"epochs": 2})
    frequency = StreamingFrequency(buckets=100)

    def report(day, done, total, *_):
        if done == total:
            told.append(day)

    last = {"last": [(WEDNESDAY, tiny.rows(20))], "before_last": lambda: told.append("measured")}
    days = [(MONDAY, tiny.rows(50)), (TUESDAY, tiny.rows(31))]
    model = TwoTower(tiny.architecture(), 0)
    learned = run_training(model, frequency, days, pipeline.train, report=report, **last)
    passes = [f"{day}, pass {n} of 2" for n in (1, 2) for day in (MONDAY, TUESDAY)]
    assert told == [*passes, "measured", *(f"{WEDNESDAY}, pass {n} of 2" for n in (1, 2))]
    assert learned.rows == 2 * (50 + 31 + 20)
    assert int(frequency.seen.numpy()) == 50 + 31 + 20, "its clock is the logs'"


def test_the_linear_part_is_fitted_to_the_newest_history_of_each_user(tiny):
    pipeline = tiny.pipeline(train={"history": {"pooling": "sqrtn"}})
    days = [(MONDAY, tiny.rows(3)), (TUESDAY, tiny.rows(2, seed=1))]
    for (_, rows), users in zip(days, ([7, 9, 7], [9, 4]), strict=True):
        rows.user[:] = users
    lists = newest_histories(days, tiny.architecture(pipeline))
    monday, tuesday = (rows.features["recent"] for _, rows in days)
    width = lists.shape[1]
    expected = [tuesday[1], monday[2], tuesday[0]]  # of users 4, 7 and 9
    assert lists.tolist() == [[*row, *[0] * (width - len(row))] for row in map(list, expected)]


def test_training_with_a_stop_is_training_of_one_part_and_then_of_the_other(tiny):
    pipeline = tiny.pipeline(train={"epochs": 2, "id_dropout": 0.1})
    days = [(MONDAY, tiny.rows(64)), (TUESDAY, tiny.rows(64, seed=1))]
    last = [(WEDNESDAY, tiny.rows(64, seed=2))]
    models = []
    for at_once in (True, False):
        model = TwoTower(tiny.architecture(pipeline), seed=0)
        frequency = StreamingFrequency(buckets=100)
        if at_once:
            run_training(model, frequency, days, pipeline.train, last=last)
        else:
            done = run_training(model, frequency, days, pipeline.train)
            run_training(model, frequency, last, pipeline.train, step=done.step)
        models.append(model)
    for name, weight in {**models[0].tables, **models[0].dense}.items():
        other = {**models[1].tables, **models[1].dense}[name]
        np.testing.assert_allclose(weight.values, other.values, rtol=1e-4, atol=1e-6)
