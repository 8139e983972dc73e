"""The index benchmark: its vectors are like towers', and peers are tuned by the rule."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.neighbours import corpora, worker
from index_builder.settings_search import Truth
from twinspire_core.search.index import NONE


def test_made_vectors_are_clustered_and_the_same_again() -> None:
    one, again = corpora.made(3_000, 50), corpora.made(3_000, 50)
    np.testing.assert_array_equal(one.items, again.items)
    np.testing.assert_array_equal(one.queries, again.queries)
    assert one.items.dtype == one.queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(one.items, axis=1), 1, atol=1e-5)
    # As item vectors of towers do, they share a direction, and neighbours are far nearer than
    # others.
    assert 0.4 < np.linalg.norm(one.items.mean(0)) < 0.8
    scores = np.sort(one.queries @ one.items.T, 1)
    assert scores[:, -100].mean() > np.median(scores) + 0.25


def test_a_corpus_is_laid_out_with_what_a_full_sort_finds(tmp_path: Path) -> None:
    vectors = corpora.made(500, 90)
    corpora.write(vectors, tmp_path, 7)
    tuning, measuring = (np.load(tmp_path / f"{name}.npy") for name in ("tuning", "measuring"))
    np.testing.assert_array_equal(np.concatenate([tuning, measuring]), vectors.queries)
    assert len(tuning) == 30
    expected = np.sort(measuring @ vectors.items.T, 1)[:, -7]
    np.testing.assert_allclose(np.load(tmp_path / "kth-measuring.npy"), expected, atol=1e-6)


class Peer:
    """Finds the first `n` of the true neighbours; how long it takes is in its settings."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def ladders(self) -> list[list[dict[str, int]]]:
        return [[{"n": n, "cost": cost} for n in range(1, 11)] for cost in (3, 1, 2)] + [
            [{"n": 5, "cost": 0}]
        ]

    def use(self, settings: dict[str, int]) -> None:
        self.settings = settings

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return np.where(np.arange(k) < self.settings["n"], self.rows[: len(queries)], NONE)


def test_a_peer_gets_the_fastest_settings_that_find_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = corpora.made(400, 20)
    rows = np.argsort(-vectors.queries @ vectors.items.T, axis=1)[:, :10]
    peer = Peer(rows)
    monkeypatch.setattr(worker, "cpu_seconds", lambda call: peer.settings["cost"])
    truth = Truth.by_exact_search(vectors.items, vectors.queries, 10)
    assert worker.tuned(peer, vectors.items, truth, 0.75) == {"n": 8, "cost": 1}
    assert worker.tuned(peer, vectors.items, truth, 0.5) == {"n": 5, "cost": 0}
    assert worker.tuned(peer, vectors.items, truth, 1.01) is None
