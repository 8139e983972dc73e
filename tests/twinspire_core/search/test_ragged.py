"""Ragged lists: as padded tables, parts, and out of Arrow."""

import pyarrow as pa

from twinspire_core.search.ragged import positions

NONE = -1


def test_positions_of_items():
    lists = pa.chunked_array(
        [pa.array([["b", "x"], None]), pa.array([["skipped"], [], ["c", "a", "c"]])]
    ).slice(0, 5)
    found = positions(lists, pa.array(["a", "b", "c"]))
    assert found.values.tolist() == [1, NONE, NONE, 2, 0, 2]
    assert found.row.tolist() == [0, 0, 2, 4, 4, 4]
    assert found.padded().tolist() == [
        [1, NONE, NONE],
        [NONE] * 3,
        [NONE] * 3,
        [NONE] * 3,
        [2, 0, 2],
    ]
    assert found.part(3, 5).padded(2).tolist() == [[NONE, NONE], [2, 0]]
    assert positions(
        pa.array([["a"], ["b"], ["c"]]).slice(1, 2), pa.array(["a", "b", "c"])
    ).values.tolist() == [1, 2]
