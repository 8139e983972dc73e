from dataclasses import replace

import numpy as np
import pytest

from index_builder import index_stage, settings_search
from index_builder.index_stage import Wanted
from tests.index_builder.vectors import clustered
from twinspire_core.search.index import NONE, Settings
from twinspire_core.search.scann_index import ScannIndex
from twinspire_core.search.top_k import exact_search


class Ladder:
    """An index whose recall is known: it finds the first so many of the true neighbours, by leaves
    and rescoring.
    """

    def __init__(
        self, vectors: np.ndarray, settings: Settings, found: np.ndarray, truth: np.ndarray
    ) -> None:
        self.vectors, self.settings, self.found, self.truth = vectors, settings, found, truth

    def __len__(self) -> int:
        return len(self.vectors)

    def with_settings(self, settings: Settings) -> "Ladder":
        return Ladder(self.vectors, settings, self.found, self.truth)

    def scan(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        share = self.found[self.settings.leaves_searched, self.settings.rescored // k]
        # More of some queries' neighbours than of others'.
        wanted = share * k + np.arange(len(self.truth))[:, None] % 5 - 2
        rows = np.where(np.arange(k) < wanted, self.truth, NONE)
        return rows, np.zeros(rows.shape, np.float32)


def test_the_search_finds_the_least_work_that_trying_everything_finds():
    rng = np.random.default_rng(5)
    vectors, k, leaves = clustered(4_000), 20, 60
    queries = clustered(30, seed=1)
    truth = settings_search.Truth.by_exact_search(vectors, queries, k)
    rows, _ = exact_search(vectors, queries, k)
    start = Settings(kind="tree", k=k, rescored=k, leaves=leaves, leaves_searched=leaves)
    for _ in range(10):
        # Recall that grows with leaves and with rescoring, as it does.
        steps = rng.random((leaves + 1, 60)) * rng.random((leaves + 1, 1)) ** 3
        found = steps.cumsum(0).cumsum(1)
        index = Ladder(vectors, start, np.minimum(found / found[leaves // 2, 20], 1), rows)
        everything = [s for each in settings_search.candidates(start, len(index)) for s in each]
        costs = {s: settings_search.work(s, len(index)) for s in everything}
        found_by = {s: index.with_settings(s).scan(queries, k)[0] for s in everything}
        recall = {s: settings_search.recall(vectors, truth, of) for s, of in found_by.items()}
        reaching = [s for s in everything if recall[s].sure >= 0.6]
        enough = [costs[s] for s in reaching]
        for below in (np.inf, np.median(list(costs.values())), min(enough)):
            tried: list[settings_search.Point] = []
            best = settings_search.tune(index, truth, 0.6, tried.append, below)
            assert (best.work if best else None) == min(
                (cost for cost in enough if cost < below), default=None
            )
            assert len(tried) < len(everything) / 3
        assert 1 < len(enough) < len(everything) / 2
        for missed in rng.choice([s for s in everything if s not in reaching], 5):
            above = [
                costs[s]
                for s in reaching
                if s.rescored >= missed.rescored and s.leaves_searched >= missed.leaves_searched
            ]
            for below in (np.inf, np.median(enough), min(above, default=0)):
                tried = []
                best = settings_search.step_up(index, truth, 0.6, tried.append, missed, below)
                assert (best.work if best else None) == min(
                    (cost for cost in above if cost < below), default=None
                )
                assert [point.work for point in tried] == sorted(point.work for point in tried)


def test_the_kind_with_the_least_work_is_taken():
    vectors, queries = clustered(12_000), clustered(400, seed=1)
    built = index_stage.build(vectors, queries, Wanted(exact_below=0, k=50))
    # A scan of all codes is more work than the tree: it is not even trained.
    assert {point.settings.kind for point in built.tried} == {"tree"}
    said = "no settings of quantised with codes of 2 dimensions can do less work than tree"
    assert said in built.reasons
    sure = [point.work for point in built.tried if point.recall.sure >= 0.98]
    work = settings_search.work(built.index.settings, len(vectors))
    assert work == min(sure) < 0.8 * 2 * len(vectors)


@pytest.mark.parametrize(
    ("rescored", "winner"),
    [
        # Work of 2,000 + 40 each; of 324 + 40 each; of 369 + 40 each. That of exact search is
        # 4,000.
        ((10, 90, 90), ("quantised", 2)),
        ((10, 50, 60), ("tree", 2)),
        ((40, 60, 55), ("tree", 1)),
        ((31, 75, 80), ("exact", 2)),  # a fifth has to be saved
    ],
)
def test_of_the_best_of_each_kind_the_one_with_the_least_work_is_taken(
    monkeypatch, rescored, winner
):
    found = dict(zip([("quantised", 2), ("tree", 2), ("tree", 1)], rescored, strict=True))

    def tune(index, truth, target, tried, below):
        s = index.settings
        rescored = found[s.kind, s.code_dimensions]
        settings = replace(s, rescored=rescored, leaves_searched=1 if s.kind == "tree" else 0)
        point = settings_search.Point(
            settings, settings_search.Recall(1, 0), settings_search.work(settings, len(index))
        )
        return point if point.work < below else None

    monkeypatch.setattr(index_stage, "tune", tune)
    monkeypatch.setattr(index_stage, "leaves_suffice", lambda *_: True)
    vectors = clustered(2_000, 8)
    built = index_stage.build(vectors, clustered(20, 8, seed=1), Wanted(exact_below=0, k=10))
    assert (built.index.settings.kind, built.index.settings.code_dimensions) == winner


def test_finer_codes_are_left_out_only_where_they_would_not_win():
    k, told = 20, set()
    for items, target in ((3_000, 0.7), (3_000, 0.9), (6_000, 0.97)):
        vectors, queries = clustered(items), clustered(300, seed=1)
        truth = settings_search.Truth.by_exact_search(vectors, queries, k)
        leaves = round(items**0.5)
        coarse, fine = (
            ScannIndex.build(vectors, settings_search.untuned("tree", n, k, leaves)) for n in (2, 1)
        )
        best = settings_search.tune(coarse, truth, target, lambda point: None)
        won = settings_search.tune(fine, truth, target, lambda point: None)
        for below in (best.work / 1.3, best.work, best.work * 1.3):
            cheaper = settings_search.affordable(fine.settings, items, below)
            if cheaper:
                tree = coarse.with_settings(best.settings)
                suffice = settings_search.leaves_suffice(
                    tree, cheaper, truth, target, lambda point: None
                )
                assert suffice or won.work >= below
                told.add(suffice)
    assert told == {True, False}
