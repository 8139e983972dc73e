"""What is said of training that is over too soon."""

import pytest

from model.fit import Learned
from model.progress import few_steps
from twinspire.tables import Train


def learned(steps, before=0, rows=3000):
    return Learned(step=before + steps, steps=steps, rows=rows, seconds=1.0, rate=1.0, curve=[], labels=0, auxiliary=[])


def test_few_steps_from_scratch_are_told_with_what_to_do():
    settings = Train(batch_size=128, epochs=3)
    told = few_steps(learned(23), settings)
    assert "these were 23: 1,000 examples, 3 times, in batches of 128" in told
    assert all(key in told for key in ("train.batch_size", "train.epochs", "window.train_days"))
    assert few_steps(learned(0, rows=0), settings)


@pytest.mark.parametrize("enough", [learned(50), learned(23, before=500)])
def test_enough_steps_and_days_trained_on_from_a_parent_are_not(enough):
    assert few_steps(enough, Train()) is None
