import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.model_bundle import Input


def test_scalars_and_lists_are_filled_with_what_the_graph_takes_for_missing():
    table = pa.table(
        {
            "brand": ["a", None, "é"],
            "price": pa.array([1.5, None, 2.0], pa.float32()),
            "hour": pa.array([3, None, 0], pa.int64()),
            "recent": [["x", "y"], None, ["z"]],
            "shape": pa.array([[1.0, 2.0], [], None], pa.list_(pa.float32())),
        }
    )
    inputs = {
        "brand": Input("string"),
        "price": Input("float32"),
        "hour": Input("int64"),
        "recent": Input("string", True),
        "shape": Input("float32", True, 2),
    }
    arrays = model_bundle.arrays(table, inputs)
    assert arrays["brand"].tolist() == [b"a", b"", "é".encode()]
    assert arrays["hour"].tolist() == [3, -1, 0]
    assert arrays["recent"].tolist() == [[b"x", b"y"], [b"", b""], [b"z", b""]]
    np.testing.assert_array_equal(arrays["price"], [1.5, np.nan, 2.0])
    np.testing.assert_array_equal(arrays["shape"], [[1, 2], [np.nan, np.nan], [np.nan, np.nan]])


def test_slices_and_chunks_keep_their_rows():
    column = pa.chunked_array([[["a"], ["b", "c"]], [[], ["d", "e", "f"]]])
    parts = list(
        model_bundle.batches(pa.table({"recent": column}), {"recent": Input("string", True)}, 3)
    )
    assert [p["recent"].tolist() for p in parts] == [
        [[b"a", b""], [b"b", b"c"], [b"", b""]],
        [[b"d", b"e", b"f"]],
    ]


def test_lists_of_nothing_still_have_a_column():
    table = pa.table({"recent": pa.array([[], []], pa.list_(pa.string()))})
    arrays = model_bundle.arrays(table, {"recent": Input("string", True)})
    assert arrays["recent"].tolist() == [[b""], [b""]]


STRINGS, NUMBERS = pa.list_(pa.string()), pa.list_(pa.float32())
FORMS = {
    "text": (Input("string"), pa.array(["a"])),
    "texts": (Input("string", True), pa.array([["a"]], STRINGS)),
    "number": (Input("float32"), pa.array([1.5], pa.float32())),
    "hour": (Input("int64"), pa.array([3], pa.int64())),
    "pair": (Input("float32", True, 2), pa.array([[1.0, 2.0]], NUMBERS)),
    "triple": (Input("float32", True, 3), pa.array([[1.0, 2.0, 3.0]], NUMBERS)),
}
ALIKE = {("number", "hour")}  # a whole number is a number


@pytest.mark.parametrize("read", FORMS)
@pytest.mark.parametrize("given", FORMS)
def test_a_column_of_another_form_is_missing(read, given):
    spec, column = FORMS[read][0], FORMS[given][1]
    nothing = model_bundle.arrays(pa.table({"other": column}), {"x": spec})["x"]
    arrays = model_bundle.arrays(pa.table({"x": column}), {"x": spec})["x"]
    if read == given or (read, given) in ALIKE:
        assert arrays.tolist() != nothing.tolist()
    else:
        np.testing.assert_array_equal(arrays, nothing)


def test_a_vector_of_another_size_is_missing_and_the_others_of_its_column_are_not():
    column = pa.array([[1.0, 2.0, 3.0], [1.0], [], [4.0, 5.0]], NUMBERS)
    arrays = model_bundle.arrays(pa.table({"x": column}), {"x": Input("float32", True, 2)})["x"]
    np.testing.assert_array_equal(arrays, [[np.nan] * 2] * 3 + [[4, 5]])


class _Doubler(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        return {model_bundle.VECTOR: tf.stack([2 * x, x], axis=1)}


def test_a_tower_takes_tables_of_any_length(tmp_path):
    module = _Doubler()
    tf.saved_model.save(module, str(tmp_path), signatures={model_bundle.SIGNATURE: module.double})
    tower = model_bundle.Tower(tf.saved_model.load(str(tmp_path)))
    assert tower.inputs == {"x": Input("float32")} and tower.dimension == 2
    table = pa.table({"x": pa.array(np.arange(10), pa.float32()), "ignored": ["?"] * 10})
    np.testing.assert_array_equal(tower(table, batch_rows=4), [[2 * i, i] for i in range(10)])
    assert tower(table.slice(0, 0)).shape == (0, 2)
