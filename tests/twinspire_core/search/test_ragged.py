import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.search.ragged import (
    Ragged,
    arrow_lists,
    list_lengths,
    list_offsets,
    list_places,
    list_ranges,
    list_rows,
    positions,
)

NONE = -1


def test_positions_of_items():
    lists = pa.chunked_array(
        [pa.array([["b", "x"], None]), pa.array([["skipped"], [], ["c", "a", "c"]])]
    ).slice(0, 5)
    places = positions(lists, pa.array(["a", "b", "c"]))
    assert places.values.tolist() == [1, NONE, NONE, 2, 0, 2]
    assert places.row.tolist() == [0, 0, 2, 4, 4, 4]
    assert places.padded().tolist() == [[1, NONE, NONE], *[[NONE] * 3] * 3, [2, 0, 2]]
    assert places.part(3, 5).padded(2).tolist() == [[NONE, NONE], [2, 0]]
    sliced = pa.array([["a"], ["b"], ["c"]]).slice(1, 2)
    assert positions(sliced, pa.array(["a", "b", "c"])).values.tolist() == [1, 2]


LISTS = [[], [7, 8, 9], None, [4], []]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int64())])
def test_the_ways_to_say_how_values_are_parted_agree(kind):
    whole = pa.array([[1], *LISTS, [2]], kind)
    chunks = pa.chunked_array([whole.slice(1, 2), whole.slice(3, 3)])
    for lists in (whole.slice(1, 5), chunks):
        lengths = list_lengths(lists)
        assert lengths.tolist() == [0, 3, 0, 1, 0] and lengths.dtype == np.int64
    assert list_offsets(lengths).tolist() == [0, 0, 3, 3, 4, 4]
    assert list_rows(lengths).tolist() == [1, 1, 1, 3]
    assert list_places(lengths).tolist() == [0, 1, 2, 0]
    assert list_ranges(np.array([9, 5, 9, 2, 9]), lengths).tolist() == [5, 6, 7, 2]
    missing = pa.array([values is None for values in LISTS])
    assert arrow_lists(lengths, pa.array([7, 8, 9, 4]), missing).to_pylist() == LISTS
    assert Ragged.of_lengths(np.array([7, 8, 9, 4]), lengths).lengths.tolist() == lengths.tolist()


def test_there_may_be_no_list():
    none = np.zeros(0, np.int64)
    assert list_offsets(none).tolist() == [0]
    assert list_rows(none).tolist() == list_places(none).tolist() == []
    assert arrow_lists(none, pa.array([], pa.string())).to_pylist() == []
