import subprocess
import sys
from datetime import date

import numpy as np
import pytest

from model.losses.sampling_probability import StreamingFrequency
from model.towers.two_tower import TwoTower
from model.training import loop as fitting
from twinspire_core.errors import UsageError

MONDAY, TUESDAY = date(2024, 5, 6), date(2024, 5, 7)


def _train(tiny, days, **settings):
    pipeline = tiny.pipeline(train=settings)
    model = TwoTower(tiny.architecture(pipeline), seed=0)
    frequency = StreamingFrequency(buckets=1000)
    learned = fitting.run_training(model, frequency, days, pipeline.train)
    return model, frequency, learned


def test_rows_that_no_example_uses_stay_as_they_were(tiny):
    rows = tiny.rows(64)
    for name in ("user", "recent", "item"):
        rows.features[name][:] = rows.features[name] % 5 + 1
    before = TwoTower(tiny.architecture(), seed=0)
    after, _, _ = _train(tiny, [(MONDAY, rows)], id_dropout=0.0)
    for table in ("user", "item"):
        moved = (after.tables[table].values.numpy() != before.tables[table].values.numpy()).any(1)
        assert moved[1:6].all() and not moved[6:].any() and not moved[0]


def test_id_dropout_trains_every_shared_row_and_the_batch_still_knows_its_items(tiny):
    before, rows = TwoTower(tiny.architecture(), seed=0), tiny.rows(400)
    # Three items outside the vocabulary may share a row
    rows.item[:] = rows.item * 3 + np.arange(400) % 3
    after, frequency, _ = _train(tiny, [(MONDAY, rows)], id_dropout=0.3)
    moved = (after.tables["item"].values.numpy() != before.tables["item"].values.numpy()).any(1)
    assert moved[21:].all()
    # Of 60 items, not of 20 rows; two may fall into one bucket
    assert len(frequency.state()["bucket"]) > 55


def test_every_pass_sees_every_row_once_and_goes_through_the_days_in_order(tiny):
    told = []
    pipeline = tiny.pipeline(train={"epochs": 2})
    days = [(MONDAY, tiny.rows(50)), (TUESDAY, tiny.rows(31, seed=1))]
    frequency = StreamingFrequency(buckets=100)

    def report(*progress):
        told.append(progress[:3])

    model = TwoTower(tiny.architecture(), 0)
    learned = fitting.run_training(model, frequency, days, pipeline.train, step=10, report=report)
    assert learned.rows == 2 * 81 and int(frequency.seen.numpy()) == 81  # its clock is the logs'
    assert learned.steps == 2 * 3 + 2 * 1 and learned.step == 10 + learned.steps
    assert [(day, done) for day, done, total in told if done == total] == [
        (f"{day}, pass {number} of 2", rows)
        for number in (1, 2)
        for day, rows in ((MONDAY, 50), (TUESDAY, 31))
    ]
    assert learned.curve[-1][0] == learned.step


def test_rows_without_reward_teach_their_query_nothing(tiny):
    rows = tiny.rows(64)
    rows.reward[:] = rows.features["user"] == 3
    before = TwoTower(tiny.architecture(), seed=0)
    after, _, _ = _train(tiny, [(MONDAY, rows)], id_dropout=0.0)
    moved = (after.tables["user"].values.numpy() != before.tables["user"].values.numpy()).any(1)
    assert np.flatnonzero(moved).tolist() == [3]


def test_a_loss_that_is_no_number_stops_the_run(tiny):
    rows = tiny.rows(64)
    rows.features["week"][5] = np.inf
    with pytest.raises(UsageError, match=r"must be finite.*train.learning_rate"):
        _train(tiny, [(MONDAY, rows)])


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_last_step_that_leaves_no_numbers_stops_the_run(tiny):
    """Of a single step the loss is a number; it is what the step leaves that is none."""
    with pytest.raises(UsageError, match=r"Weights must be finite.*train.learning_rate"):
        _train(tiny, [(MONDAY, tiny.rows(64))], batch_size=64, epochs=1, learning_rate=1e39)


TWICE = """
import numpy as np, tensorflow as tf
from datetime import date
from types import SimpleNamespace
from tests.model import conftest
from tests.model.training.test_loop import _train

tf.config.experimental.enable_op_determinism()
tiny = SimpleNamespace(pipeline=conftest._pipeline, architecture=conftest._architecture, rows=conftest._rows)
a, b = (_train(tiny, [(date(2024, 5, 6), tiny.rows(5000))], batch_size=512, epochs=2)[0] for _ in range(2))
for name, weight in {**a.tables, **a.dense}.items():
    other = {**b.tables, **b.dense}[name]
    assert weight.values.numpy().tobytes() == other.values.numpy().tobytes(), name
    assert weight.slots.numpy().tobytes() == other.slots.numpy().tobytes(), name
"""


def test_two_deterministic_runs_give_equal_bytes(request):
    """In a separate process, since determinism is switched on for a whole process."""
    root = request.config.rootpath
    done = subprocess.run([sys.executable, "-c", TWICE], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
