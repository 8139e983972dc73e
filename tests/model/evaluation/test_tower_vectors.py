from types import SimpleNamespace

import pyarrow as pa
import pytest

from model.train_stage import declared_inputs, distinct_rows, missing_columns

TAG = {"kind": "category", "tower": "item"}
LARGER = {"kind": "vector", "tower": "item", "size": 4}
WEEKLY = {"kind": "count", "days": 7}
GONE = "{} (now gone, was a {})"
EDITS = {
    "another kind": ({"tags": TAG}, ["tags (now a text, was a list of texts)"]),
    "another size": (
        {"shape": LARGER},
        ["shape (now a list of 4 numbers, was a list of 3 numbers)"],
    ),
    "renamed": ({"week": None, "weekly": WEEKLY}, [GONE.format("week", "number")]),
    "other tower": ({"device": TAG}, [GONE.format("device", "text")]),
    "of a time": (
        {"when": {"kind": "number", "tower": "query"}},
        [GONE.format("when_hour", "number"), GONE.format("when_weekday", "number")],
    ),
    "added": ({"tag": TAG}, []),
    "text of a category": ({"device": {"kind": "text", "tower": "query"}}, []),
}


@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_of_the_features_tells_what_is_missing(tiny, edit):
    changes, told = EDITS[edit]
    inputs = {side: declared_inputs(tiny.pipeline(), side) for side in ("query", "item")}
    before = {side: SimpleNamespace(inputs=given) for side, given in inputs.items()}
    assert missing_columns(before, tiny.pipeline()) == []
    now = {name: f for name, f in {**tiny.features, **changes}.items() if f}
    assert missing_columns(before, tiny.pipeline(now)) == told


def test_rows_are_equal_only_if_all_columns_are():
    table = pa.table(
        {
            "user": ["u", "u", "u", "u", "v", None, "u"],
            "history": [[*"ab"], [*"ab"], [*"ba"], ["a"], [*"ab"], None, [*"ab"]],
            "hour": [1, 1, 1, 1, 1, None, 2],
            "price": pa.array([0.5, 0.5, 0.5, 0.5, 0.5, None, 0.5], pa.float32()),
        }
    )
    # Each chunk has its own offsets
    table = pa.concat_tables([table, table.slice(3), table.slice(5, 1)])
    first, place = distinct_rows(table)
    assert len(first) == 6
    assert table.take(first).take(place).to_pylist() == table.to_pylist()
    empty, nowhere = distinct_rows(table.slice(0, 0))
    assert (len(empty), len(nowhere)) == (0, 0)
