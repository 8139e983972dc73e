import pytest

from model.training.loop import LoopResult, few_steps
from twinspire_core.config.tables.training import TrainConfig


def learned(steps, before=0, rows=3000):
    rest = {"seconds": 1.0, "rate": 1.0, "curve": [], "labels": 0, "auxiliary": []}
    return LoopResult(step=before + steps, steps=steps, rows=rows, **rest)


def test_few_steps_from_scratch_are_reported_with_a_remedy():
    settings = TrainConfig(batch_size=128, epochs=3)
    note = few_steps(learned(23), settings)
    assert "this run took 23: 1,000 examples, 3 times, in batches of 128" in note
    assert all(key in note for key in ("train.batch_size", "train.epochs", "window.train_days"))
    assert few_steps(learned(0, rows=0), settings)


@pytest.mark.parametrize("enough", [learned(50), learned(23, before=500)])
def test_enough_steps_and_days_trained_on_from_a_parent_are_not(enough):
    assert few_steps(enough, TrainConfig()) is None
