"""Lists of single sources and in the fixed order of several, on the circle of twelve items.

i11, i10, i09… are popular, i00 and i11 were lately; who took i05 took i08 and i07 as well, who took
i03 took i08.
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.version.loaded_version import Version
from tests.serving.asking import recommend
from tests.serving.conftest import publish
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.sources.co_occurrence import SCHEMA

ALL = ("two_tower", "history", "popular", "co_occurrence")


def in_order(**weights: float) -> FixedOrder:
    """By source, its weight; .0001 where not said."""
    return FixedOrder(weights={name: weights.get(name, 0.0001) for name in ALL})


def files(order: FixedOrder | None) -> dict[str, bytes]:
    rows = {"_item": ["i03", "i05"], "_rows": [[8], [8, 7]], "_similarities": [[0.25], [0.5, 0.25]]}
    sink = io.BytesIO()
    pq.write_table(pa.table(rows, schema=SCHEMA), sink)
    return {"co_occurrence.parquet": sink.getvalue()} | (
        {"fixed_order.json": order.dump()} if order else {}
    )


@pytest.fixture
def opened(pipeline, towers, tmp_path):
    """Opens a version that carries this order."""

    def make(order: FixedOrder | None = None) -> Version:
        publish(pipeline, towers, tmp_path / "staged", nominators=files(order))
        return Version.open(pipeline)

    return make


def ids(version: Version, answer, query: int = 0) -> list[str]:
    return answer.lists(version.items["_item"].combine_chunks())[0][query].as_py()


def test_the_past_is_what_is_stored_with_what_a_request_adds(opened):
    """The most frequent first, then the most recent; what is not in the catalogue counts as an
    event all the same.
    """
    version = opened(in_order(history=1, popular=0.01))
    requests = [
        {"user": "anna", "history": ["i07", "i01", "gone", "i02", "i01"]},
        {"history": []},
        {"user": "who"},
    ]
    answer = recommend(version, requests, 3)
    assert ids(version, answer, 0) == ["i01", "i02", "i07"]
    past = ids(version, recommend(version, requests, 7, source="history"), 0)
    assert past[3:] == ["i05", "i03", "i04", "i11"], "the stored past, then what is popular"
    short = recommend(version, [{"user": "anna", "history": ["i05", "i04"]}], 4, source="history")
    assert ids(version, short) == ["i04", "i05", "i03", "i11"], "i05 ends what is stored"
    assert ids(version, answer, 1) == ids(version, answer, 2) == ["i00", "i11", "i10"], (
        "newcomers, who have no past"
    )


def test_the_fixed_order_answers_where_there_is_one(opened):
    version = opened(in_order(co_occurrence=1, history=0.1))
    answer = recommend(version, [{"user": "anna"}], 5)
    assert answer.source == "fixed_order"
    assert ids(version, answer)[:2] == ["i08", "i07"] and set(ids(version, answer)[2:5]) == {
        "i05",
        "i04",
        "i03",
    }
    assert answer.main_names()[0, 0] == "co_occurrence"
    parts = dict(zip(answer.names, answer.shares[0, 0], strict=True))
    assert parts["two_tower"] > 0 and parts["popular"] > 0
    place = ids(version, recommend(version, [{"user": "anna"}], 12, source="two_tower")).index(
        "i08"
    )
    # Of what is popular the 5th
    expected = 1 + 0.0001 * (1 / (1 + place / 60) + 1 / (1 + 4 / 60))
    np.testing.assert_allclose(answer.scores[0, 0], expected, rtol=1e-6)
