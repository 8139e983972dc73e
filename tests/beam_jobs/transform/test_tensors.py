"""Lists whose values repeat: each is looked up once, and put back where it was."""

import pyarrow as pa

from beam_jobs.transform.preprocessing import RepeatedValues

LISTS = [["a", "b", "a"], [], None, ["b", None, "c"], ["a"]]


def test_each_distinct_value_is_seen_once_and_comes_back_in_its_place():
    for kind in (pa.string(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array([["left out"], *LISTS], pa.list_(pa.string())).cast(pa.list_(kind))[1:]
        found = RepeatedValues(column)
        seen = found.distinct.to_pylist()
        assert seen[1:] == [[]] * 4
        assert {"a", "b", "c", ""} <= set(seen[0]) and len(seen[0]) == len(set(seen[0]))
        upper = pa.array([value.upper() for value in seen[0]])
        expected = [["A", "B", "A"], [], [], ["B", "", "C"], ["A"]]
        assert found.replaced(upper).to_pylist() == expected
