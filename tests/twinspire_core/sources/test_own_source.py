"""A user-defined source that raises errors or lists what is not there."""

import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.config.source_registry import ENTRIES, add_own
from twinspire_core.errors import BadData
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources, fits_of
from twinspire_core.sources.source import Queries

CODE = """
import numpy as np
from twinspire_core.sources.source import ScoredLists, Source

class Steady(Source):
    name = "steady"
    fits = {{"steady_table": lambda sequences, items: {fit}}}

    @classmethod
    def of(cls, tables):
        {of}
        return cls()

    def lists(self, queries, depth, *, exclude=None, passing=None):
        items = np.tile([2, 0], (len(queries), 1))
        scores = np.tile(np.float32([1, 0.5]), (len(queries), 1))
        {lists}
        return ScoredLists(items, scores)
"""
CORPUS = pa.table({"_item": ["a", "b", "c"], "_popular": [3, 2, 1], "_lately": [0, 0, 1]})


@pytest.fixture
def listed(tmp_path):
    def of(of="pass", lists="pass", fit="sequences"):
        file = tmp_path / "steady.py"
        file.write_text(CODE.format(of=of, lists=lists, fit=fit))
        add_own(str(file))
        if fit != "sequences":
            return fits_of(["steady"])["steady_table"](None, CORPUS["_item"])
        queries = Queries.of_past(Ragged(np.array([1, 2]), np.array([0, 1]), 2))
        return CandidateSources.of(CORPUS).candidates(["steady"], queries)["steady"]

    yield of
    ENTRIES.pop("steady", None)


def test_a_right_source_lists_what_it_says(listed):
    assert listed().items.tolist() == [[2, 0], [2, 0]]
    assert listed(lists="items[1, 1] = -1").items.tolist() == [[2, 0], [2, -1]]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"of": "tables.corpus['_colour']"}, r"KeyError.*steady\.py, line 11\)"),
        ({"lists": "1 / 0"}, r"ZeroDivisionError.*steady\.py, line 17\)"),
        ({"fit": "items[99]"}, r"IndexError.*steady\.py, line 7\)"),
        ({"fit": "items"}, r"must return a pyarrow.Table; .*'steady' returns.*ChunkedArray"),
        ({"lists": "items[0, 0] = 10**9"}, "from 0 to 2, or -1 for none; found 0 to 1000000000"),
        ({"lists": "items[0, 0] = 3"}, "found 0 to 3"),
        ({"lists": "items[0, 0] = -2"}, "found -2 to 2"),
        ({"lists": "items[0, 0] = 0"}, "each item once"),
        ({"lists": "items = items / 2"}, "as integers; found float64"),
        ({"lists": "items = items[:1]"}, r"found \[1, 2\]"),
        ({"lists": "items = items[0]"}, r"found \[2\]"),
        ({"lists": "items = np.zeros((2, 999), int)"}, r"at most \d+\]; found \[2, 999\]"),
        ({"lists": "scores = scores[:, :1]"}, "a score for each item"),
        ({"lists": "scores[0, 0] = np.nan"}, "found NaN"),
    ],
)
def test_a_wrong_source_is_named_with_its_file(listed, code, message):
    with pytest.raises(BadData, match=message) as refused:
        listed(**code)
    assert "steady.py" in str(refused.value)
