"""Sessions as neighbours, by hand."""

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.sources.test_sequences import _sequences
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import session_neighbours
from twinspire_core.sources.queries import Queries
from twinspire_core.sources.session_neighbours import NEAR, SessionNeighbours
from twinspire_core.sources.source import SourceTables

CORPUS = pa.array(list("abcdef"))
MINUTE = 1 / 1440
USERS = [
    [(0, 1.0), (1, 1.0 + 10 * MINUTE), (2, 1.0 + 45 * MINUTE), (3, 1.0 + 70 * MINUTE)],
    [(0, 2.0), (0, 2.0 + MINUTE), (4, 2.0 + 2 * MINUTE), (5, 2.0 + 3 * MINUTE)],
    [(5, 0.5)],
]


def _source():
    table = session_neighbours.fit(_sequences(*USERS), CORPUS)
    tables = SourceTables(corpus=pa.table({"_item": CORPUS}), others={"session_neighbours": table})
    return SessionNeighbours.of(tables)


def _queries(*items):
    return Queries.of_past(Ragged.of_lengths(np.array(items), np.array([len(items)])))


def test_a_pause_parts_sessions_and_one_item_is_none():
    table = session_neighbours.fit(_sequences(*USERS), CORPUS)
    # Newest first: of the first user a and b, then c and d; of the second a, e and f.
    assert table["_rows"].to_pylist() == [[0, 1], [2, 3], [0, 4, 5]]
    lengths = [np.linalg.norm(weights) for weights in table["_weights"].to_pylist()]
    assert lengths == pytest.approx([1, 1, 1])


def test_sessions_count_by_what_they_share():
    found = _source().lists(_queries(0), 6)
    near, far = 1 / np.sqrt(2), 1 / np.sqrt(3)  # similarities of both sessions with a
    assert found.items[0].tolist() == [0, 1, 4, 5, -1, -1]
    expected = [near * near + far * far, near * near, far * far, far * far]
    assert found.scores[0, :4] == pytest.approx(np.array(expected) / (near + far))


def test_the_item_taken_last_weighs_most():
    scores = []
    for asked in ([2, 4], [4, 2]):
        found = _source().lists(_queries(*asked), 6)
        scores.append(dict(zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True)))
    assert scores[0][2] > scores[1][2]
    assert scores[0][4] < scores[1][4]
    # Of the sessions of c and of e, each scaled by what it shares.
    shared = np.array([1 / np.sqrt(2), np.exp(-1 / NEAR) / np.sqrt(3)])
    expected = shared / shared.sum() / [np.sqrt(2), np.sqrt(3)]
    assert [scores[0][2], scores[0][4]] == pytest.approx(expected)


def test_only_the_newest_sessions_of_an_item_are_looked_at(monkeypatch):
    monkeypatch.setattr(SessionNeighbours, "newest", 1)
    assert _source().lists(_queries(0), 6).items[0].tolist() == [0, 1, -1, -1, -1, -1]
