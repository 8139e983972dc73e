import math
import subprocess
import sys

import pytest
import tensorflow as tf

from model.towers.export import Transform, vocabularies
from tests.beam_jobs.transform.made_up_log import make, transformed


class Saved(tf.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def save(self, folder):
        call = tf.function(lambda **raw: self.part(raw)).get_concrete_function(**self.part.inputs)
        tf.saved_model.save(self, str(folder), signatures=call)


def padded(rows, spec):
    """Raw values as a tower is sent them: [B], or [B, L] with lists padded at the end."""
    name = spec.name
    missing = {tf.string: "", tf.float32: math.nan, tf.int64: -1}[spec.dtype]
    if spec.shape.rank == 1:
        values = [missing if row[name] is None else row[name] for row in rows]
    else:
        width = max(len(row[name]) for row in rows)
        values = [row[name] + [missing] * (width - len(row[name])) for row in rows]
    return tf.constant(values, spec.dtype)


@pytest.mark.parametrize("side", ["query", "item"])
def test_a_tower_transforms_as_the_job_did(done, today, side, tmp_path):
    part = Transform(f"{done}/transform", make(), side)
    Saved(part).save(tmp_path)
    rows = [row for row in today if not row["_holdout"]]
    served = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    got = served(**{name: padded(rows, spec) for name, spec in part.inputs.items()})
    job = {row["_time"]: row for row in transformed(done)}
    assert set(got) == set(part.inputs)
    for name, column in got.items():
        for value, raw in zip(column.numpy(), rows, strict=True):
            expected = job[raw["_time"]][name]
            if isinstance(expected, list):
                assert value.tolist() == expected + [0] * (len(value) - len(expected))
            else:
                assert value == expected


def test_a_tower_carries_its_own_vocabularies_only(done, tmp_path):
    """In a fresh process, and after the folder that it was made from is gone."""
    for side, own in (("item", ["item", "tags"]), ("query", ["city", "device", "item", "user"])):
        Saved(Transform(f"{done}/transform", make(), side)).save(tmp_path / side)
        assert sorted(path.name for path in (tmp_path / side / "assets").iterdir()) == own
    (tmp_path / "item").rename(tmp_path / "moved")
    program = (
        "import tensorflow as tf; served ="
        " tf.saved_model.load('moved').signatures['serving_default'];inputs ="
        " served.structured_input_signature[1];empty = {n: tf.fill([1] + [2] * (s.shape.rank - 1),"
        " {'string': '', 'float32': 0.0}[s.dtype.name]) for n, s in inputs.items()};"
        " print(served(**{**empty, 'item': tf.constant(['i0'])})['item'].numpy()[0])"
    )
    answer = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)
    items = vocabularies(f"{done}/transform", make())["item"].to_pylist()
    assert int(answer) == 1 + items.index("i0")


def test_features_left_out_are_left_out(done):
    part = Transform(f"{done}/transform", make(), "query")
    hours = tf.constant([1, 2], tf.int64)
    got = tf.function(lambda raw: part(raw))({"user": tf.constant(["u3", ""]), "when_hour": hours})
    assert list(got) == ["user"], "half of a time is not a time"
