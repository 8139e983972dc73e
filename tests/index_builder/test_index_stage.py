import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index_builder import index_stage, settings_search
from index_builder.index_stage import Wanted, unfit
from index_builder.settings_search import work
from tests.index_builder.vectors import clustered
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core.contracts.attempts import StageContext, Start
from twinspire_core.contracts.version_manifest import IndexFigures
from twinspire_core.errors import BadData, UsageError
from twinspire_core.search import scann_index
from twinspire_core.search.index import ExactIndex, Index, Settings, load_index
from twinspire_core.search.scann_index import ScannIndex

ROOT = Path(__file__).parents[2]


def write_vectors(folder: Path, key: str, ids: list[str], vectors: np.ndarray) -> None:
    folder.mkdir(parents=True)
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    table = pa.table(
        {key: ids, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    )
    pq.write_table(table, folder / "part-00000.parquet")


def stage(
    tmp_path: Path, vectors: np.ndarray, queries: np.ndarray, ids: list[str] | None = None, **index
) -> StageContext:
    """The index stage over an embed attempt with these vectors."""
    ids = ids or [f"i{n:07d}" for n in range(len(vectors))]
    write_vectors(tmp_path / "embed" / "items", "_item", ids, vectors)
    write_vectors(
        tmp_path / "embed" / "queries", "_user", [f"u{n:07d}" for n in range(len(queries))], queries
    )
    inputs = {"embed": str(tmp_path / "embed")}
    about = {"pipeline": tiny_pipeline(index=index), "day": date(2024, 1, 1), "mode": "full"}
    return StageContext(**about, inputs=inputs, out=str(tmp_path / "index"))


def run_small(ctx: StageContext, **wanted) -> dict:
    """The stage, for few items or neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_stage, "Wanted", partial(Wanted, **wanted))
        return index_stage.run(ctx)


def neighbours(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """By float64 and a full sort."""
    return np.argsort(-(queries.astype(float) @ vectors.astype(float).T), axis=1, kind="stable")[
        :, :k
    ]


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)])
    )


@pytest.mark.parametrize("kind", ["quantised", "tree"])
def test_recall_written_is_the_one_that_brute_force_gives(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(index_stage, "strategy", lambda items, wanted: ((kind,), "asked for"))
    vectors, queries = clustered(12_000), clustered(1_000, seed=1)
    ctx = stage(tmp_path, vectors, queries)
    summary = run_small(ctx, exact_below=0, k=50)

    figures = json.loads((tmp_path / "index" / "index.json").read_text())
    assert figures["kind"] == summary["kind"] == kind
    measuring = queries[1::2]  # users are in order of id; every other one measures
    rows, _ = load_index(tmp_path / "index" / "index").search(measuring, 50)
    assert figures["recall"] == pytest.approx(
        overlap(rows, neighbours(vectors, measuring, 50)), abs=1e-4
    )
    assert figures["recall"] >= figures["recall_target"] == ctx.pipeline.index.recall_target
    assert min(point["recall"] for point in figures["tried"]) < 0.98, (
        "the curve goes below the target"
    )
    assert figures["queries"] == {"tuning": 500, "measuring": 500, "source": "users"}
    speed = json.loads((tmp_path / "index" / "timings.json").read_text())
    assert min(speed.values()) > 0


def test_one_query_and_many_are_answered_alike():
    queries = clustered(100, seed=1)
    for kind in ("quantised", "tree"):
        index = make(kind, clustered(3_000), 10)
        rows, scores = index.search(queries, 10)
        for size in (1, 5, 16, 33):
            parts = [index.search(queries[i : i + size], 10) for i in range(0, 100, size)]
            # ScaNN groups queries; which of two items with equal codes is rescored depends on the
            # group.
            assert overlap(np.concatenate([part[0] for part in parts]), rows) > 0.99
            others = np.concatenate([part[1] for part in parts])
            np.testing.assert_allclose(others[:, 0], scores[:, 0], atol=1e-6)
            assert np.isclose(others, scores, atol=1e-6).mean() > 0.95


@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_odd_widths_are_coded(dimension):
    vectors, queries = clustered(2_000, dimension), clustered(50, dimension, seed=1)
    for code in (1, 2):
        settings = Settings(
            kind="tree", k=5, rescored=200, leaves=10, leaves_searched=10, code_dimensions=code
        )
        _, scores = ScannIndex.build(vectors, settings).search(queries, 5)
        best = np.sort(queries @ vectors.T, 1)[:, ::-1][:, :5]
        assert (scores >= best - 0.01).mean() > 0.95


def test_the_same_vectors_give_the_same_files_on_any_number_of_cores(tmp_path, monkeypatch):
    vectors, queries = clustered(8_000), clustered(400, seed=1)
    files = []
    for name, cores in (("first", 1), ("second", 3)):
        monkeypatch.setattr(scann_index, "CORES", cores)
        run_small(stage(tmp_path / name, vectors, queries), exact_below=0, tree_above=0, k=20)
        folder = tmp_path / name / "index"
        files.append(files_of(folder))
        del files[-1][Path("timings.json")]
    assert files[0] == files[1]


def files_of(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make(kind: str, vectors: np.ndarray, k: int) -> Index:
    """An index of a kind, untuned."""
    if kind == "exact":
        return ExactIndex(vectors, Settings(kind="exact", k=k))
    leaves = 50 if kind == "tree" else 0
    trees = {"leaves": leaves, "leaves_searched": leaves // 5}
    return ScannIndex.build(vectors, Settings(kind=kind, k=k, rescored=3 * k, **trees))


def test_moved_indexes_load_in_a_clean_process(tmp_path):
    queries, expected = clustered(4, seed=1), []
    for kind in ("exact", "quantised", "tree"):
        index = make(kind, clustered(3_000), 10)
        index.save(tmp_path / "here" / kind)
        expected.append(f"{index.search(queries, 10)[0].tolist()} False")
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    np.save(tmp_path / "queries.npy", queries)
    code = """
import sys, numpy as np
from twinspire_core.search.index import load_index
for kind in ("exact", "quantised", "tree"):
    found = load_index(f"elsewhere/{kind}").search(np.load("queries.npy"), 10)[0]
    print(found.tolist(), "tensorflow" in sys.modules)
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    text = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=env, text=True)
    assert text.splitlines() == expected


def test_tensorflow_is_loaded_after_scann_into_one_process():
    code = """
import numpy as np
from twinspire_core.search import scann_index
from twinspire_core.search.index import Settings
vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype("float32")
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
index = scann_index.ScannIndex.build(vectors, Settings(kind="quantised", k=10, rescored=50))
import tensorflow as tf
rows, _ = index.search(tf.constant(vectors[:3]).numpy(), 10)
assert rows[:, 0].tolist() == [0, 1, 2], rows
assert int(tf.reduce_sum(tf.ones([3]))) == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def test_k_beyond_the_settings_is_answered_in_full_and_exactly_near_the_corpus():
    queries, index = clustered(20, seed=1), make("tree", clustered(3_000), 10)
    for k in (1, 10, 200, 2_999, 3_000, 9_999):
        rows, scores = index.search(queries, k)
        assert rows.shape == scores.shape == (20, min(k, 3_000))
        assert all(len(set(row)) == len(row) for row in rows.tolist())
        assert not np.isnan(scores).any()
        assert (np.diff(scores) <= 0).all()
    np.testing.assert_array_equal(np.sort(rows), np.tile(np.arange(3_000), (20, 1)))


def test_leaves_that_hold_too_few_are_made_up():
    corner = np.eye(2, dtype=np.float32)
    vectors = np.repeat(corner, [1_900, 100], axis=0) + clustered(2_000, 2) / 50
    index = ScannIndex.build(
        vectors, Settings(kind="tree", k=200, rescored=210, leaves=2, leaves_searched=1)
    )
    rows, scores = index.search(corner, 200)  # the leaf of the second holds 100
    np.testing.assert_array_equal(rows[1], neighbours(vectors, corner, 200)[1])
    assert (scores[0] > 0.9).all()
    # One query takes another way
    np.testing.assert_array_equal(index.search(corner[1:], 200)[0], rows[1:])
    # Nor do they count as found when settings are chosen: the exact answer would hide that they are
    # too few.
    truth = settings_search.Truth.by_exact_search(vectors, corner[1:], 200)
    assert settings_search.recall(vectors, truth, index.scan(corner[1:], 200)[0]).mean == 0.5
    assert settings_search.tune(index, truth, 0.9, lambda point: None) is None
    assert not np.isnan(scores).any()


@pytest.mark.parametrize("items", [1, 2, 15, 999])
def test_tiny_corpora_are_searched_exactly_whatever_is_asked(items):
    vectors = clustered(items)
    index = index_stage.build(
        vectors, clustered(10, seed=1), Wanted(exact_below=0, tree_above=0)
    ).index
    assert index.settings.kind == "exact"
    rows, _ = index.search(clustered(3, seed=2), 100)
    assert rows.shape == (3, min(100, items))


@pytest.mark.parametrize("limit", [0, 10_000])
def test_equal_vectors_are_all_as_good_as_one_another(tmp_path, limit):
    vectors = np.tile(clustered(1), (5_000, 1))
    summary = run_small(
        stage(tmp_path, vectors, clustered(400, seed=1)), exact_below=0, tree_above=limit, k=20
    )
    assert summary["recall"] == 1
    rows, _ = load_index(tmp_path / "index" / "index").search(clustered(3, seed=2), 20)
    assert all(len(set(row)) == 20 for row in rows.tolist())


@pytest.mark.parametrize("files", [True, False])
def test_without_queries_items_stand_in(tmp_path, files):
    """Nobody was there in the last days, as before a refresh in a week without logs: the embed
    stage writes no file.
    """
    context = stage(tmp_path, clustered(3_000), np.zeros((0, 32)))
    if not files:
        shutil.rmtree(tmp_path / "embed" / "queries")
    summary = run_small(context, exact_below=0, k=10)
    assert summary["recall"] > 0.9
    source = json.loads((tmp_path / "index" / "index.json").read_text())["queries"]["source"]
    assert source.startswith("0 users and items")


def test_a_target_out_of_reach_ends_in_exact_search():
    rng = np.random.default_rng(0)
    noise = [
        (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)
        for v in (rng.normal(size=(2_000, 128)), rng.normal(size=(300, 128)))
    ]
    built = index_stage.build(*noise, Wanted(exact_below=0, tree_above=0, k=400, recall_target=1))
    assert built.index.settings.kind == "exact"
    assert [reason for reason in built.reasons if "settings of tree" in reason]
    assert [reason for reason in built.reasons if "settings of quantised" in reason], (
        "not skipped because of the tree"
    )


def test_an_empty_corpus_is_reported(tmp_path):
    with pytest.raises(BadData, match="empty"):
        index_stage.run(stage(tmp_path, np.zeros((0, 4)), clustered(3, 4)))


def test_rows_follow_the_order_of_ids(tmp_path):
    ids = ["b", "a", "é", "B", "10", "9"]
    vectors = np.eye(6, dtype=np.float32)
    index_stage.run(stage(tmp_path, vectors, clustered(3, 6), ids))
    rows, _ = load_index(tmp_path / "index" / "index").search(vectors, 1)
    assert [sorted(ids)[row] for row in rows[:, 0]] == ids


def test_queries_of_another_width_or_not_finite_are_refused():
    index = ExactIndex(clustered(10), Settings(kind="exact", k=5))
    with pytest.raises(UsageError, match="must have the shape"):
        index.search(np.zeros((2, 31), np.float32), 3)
    with pytest.raises(UsageError, match="row 1 is not"):
        index.search(np.array([[0.0] * 32, [np.nan] * 32]), 3)
    with pytest.raises(UsageError, match="at least 1"):
        index.search(clustered(2), 0)


def test_a_folder_that_is_no_index_is_reported(tmp_path):
    with pytest.raises(BadData, match=r"config\.json"):
        load_index(tmp_path)


def test_settings_are_chosen_on_users_of_all_kinds(monkeypatch):
    """Ids tell when users came: those who came first would not speak for the rest."""
    monkeypatch.setattr(index_stage, "_MOST_TUNING", 50)
    number = np.arange(1_001, dtype=np.float32)[:, np.newaxis]
    halves = index_stage.query_halves(number, np.zeros((10, 1), np.float32))
    assert len(halves.tuning) == 50
    assert halves.tuning[:, 0].mean() == pytest.approx(500, abs=15)
    assert not set(halves.tuning[:, 0]) & set(halves.measuring[:, 0])


ITEMS, K, NOISE = 8_000, 20, 1.2
WANTED = {"exact_below": 0, "tree_above": 0, "k": K, "recall_target": 0.9}
YESTERDAY = "2023-12-31-0000000a"


def run(
    folder: Path, vectors: np.ndarray, queries: np.ndarray, start: Start | None = None, **wanted
) -> dict:
    """The index stage; its index.json."""
    wanted = WANTED | wanted
    ctx = stage(folder, vectors, queries, recall_target=wanted.pop("recall_target"))
    run_small(replace(ctx, start=start) if start else ctx, **wanted)
    return json.loads((folder / "index/index.json").read_text())


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory):
    """The folder and the index.json of an index that was searched for; where to start from it."""
    folder = tmp_path_factory.mktemp("yesterday")
    records = run(folder, clustered(ITEMS, noise=NOISE), clustered(600, seed=1, noise=NOISE))
    return folder, records, Start(version=YESTERDAY, index=IndexFigures.model_validate(records))


def test_settings_that_still_do_are_kept_and_nothing_else_is_tried(tmp_path, yesterday):
    folder, told, start = yesterday
    assert told["kind"] == "tree" and len(told["tried"]) > 5
    why = {"how": "tuned", "version": None, "why": "there is no earlier version"}
    data = {"items": ITEMS, "kinds": ["tree"]}
    data["work"] = round(work(Settings(**told["settings"]), ITEMS))
    assert told["tuning"] == {**why, **data, "searched": "2024-01-01"}
    tuning = {**told["tuning"], "searched": "2023-12-07"}
    start = replace(start, index=IndexFigures.model_validate({**told, "tuning": tuning}))
    now = run(tmp_path, clustered(ITEMS, noise=NOISE), clustered(600, seed=1, noise=NOISE), start)
    assert now["settings"] == told["settings"] and len(now["tried"]) == 1
    expected = {"how": "inherited", "version": YESTERDAY, "why": "", "searched": "2023-12-07"}
    assert now["tuning"] == {**told["tuning"], **expected}
    assert now["reasons"] == told["reasons"] and now["recall"] == told["recall"]
    files = [files_of(home / "index/index") for home in (folder, tmp_path)]
    assert files[0] == files[1] and len(files[0]) > 3


def test_settings_that_miss_the_target_are_tuned_from_where_they_were(tmp_path, yesterday):
    _, told, start = yesterday
    vectors, queries = clustered(ITEMS, noise=1.26), clustered(600, seed=1, noise=1.26)
    now = run(tmp_path, vectors, queries, start)
    assert now["tuning"]["how"] == "tuned" and now["tuning"]["version"] == YESTERDAY
    recall = f"{now['tried'][0]['recall']:.4f}"
    assert f"with the settings of {YESTERDAY} recall was {recall}" in now["tuning"]["why"]
    assert now["recall"] >= now["recall_target"]
    then, found = (work(Settings(**figures["settings"]), ITEMS) for figures in (told, now))
    assert then < found < then * 4 / 3
    assert {point["leaves"] for point in now["tried"]} == {told["settings"]["leaves"]}
    assert now["tuning"]["searched"] == told["tuning"]["searched"]
    assert now["tuning"]["work"] == told["tuning"]["work"]
    assert len(now["tried"]) < len(told["tried"])


def test_settings_that_would_become_much_dearer_are_tuned_again(tmp_path, yesterday):
    _, told, start = yesterday
    now = run(tmp_path, clustered(ITEMS, noise=1.6), clustered(600, seed=1, noise=1.6), start)
    assert now["tuning"]["version"] is None and "recall was" in now["tuning"]["why"]
    assert now["tuning"]["searched"] == "2024-01-01" and now["recall"] >= now["recall_target"]
    assert now["tuning"]["work"] > told["tuning"]["work"] * 4 / 3


def told_of(**figures) -> Start:
    tuning = {"how": "tuned", "version": None, "why": "", "searched": "2024-01-01", "items": 9_000}
    tuning |= {"kinds": ["tree"], "work": 5_000}
    index = {"kind": "tree", "recall": 0.95, "recall_error": 0.001, "recall_target": 0.9, "k": K}
    index |= {"settings": {**index, "rescored": K, "leaves": 90, "leaves_searched": 9}}
    index |= {"queries": {"tuning": 200, "measuring": 200, "source": "users"}, "tried": []}
    index |= {"dimension": 8, "items": 9_000, "tuning": tuning, "reasons": ["9,000 items"]}
    return Start(version=YESTERDAY, index=IndexFigures.model_validate(index | figures))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"items": 11_999}, ""),
        ({"items": 12_000}, "12,000 items; there were 9,000 when"),
        ({"items": 6_001}, ""),
        ({"items": 6_000}, "6,000 items; there were 9,000 when"),
        # What counts is the size when they were searched for, not yesterday's: growth by a tenth a
        # day adds up.
        ({"items": 12_000, "start": told_of(items=11_500)}, "12,000 items; there were 9,000 when"),
        ({"width": 7}, "vectors of 7 numbers; those of"),
        ({"kinds": ("tree", "quantised")}, "other kinds of index suit 9,000 items"),
        ({"recall_target": 0.8}, "was tuned for recall@20 0.9"),
        ({"start": told_of(k=10)}, "was tuned for recall@10 0.9"),
        ({"start": Start(why="it was rolled back")}, "it was rolled back"),
    ],
)
def test_a_change_of_size_width_or_wishes_tunes_settings_again(change, why):
    now = {"items": 9_000, "width": 8, "kinds": ("tree",), "start": told_of(), **WANTED, **change}
    vectors = np.zeros((now.pop("items"), now.pop("width")), np.float32)
    reason = unfit(now.pop("start"), vectors, K, now.pop("kinds"), Wanted(**now))
    assert why in reason and bool(why) == bool(reason)


def test_what_was_exact_stays_exact_without_a_codebook(tmp_path, monkeypatch):
    monkeypatch.setattr("twinspire_core.search.scann_index.ScannIndex.build", None)
    told = told_of(items=1_500, settings={"kind": "exact", "k": K}).index
    tuning = told.tuning.model_copy(update={"items": 1_500, "work": 3_000})
    told = told.model_copy(update={"tuning": tuning})
    start = Start(version=YESTERDAY, index=told)
    now = run(tmp_path, clustered(1_500, 8), clustered(50, 8, seed=1), start)
    assert now["kind"] == "exact" and now["tuning"]["how"] == "inherited" and now["recall"] == 1
    assert now["tuning"]["version"] == YESTERDAY and date.fromisoformat(now["tuning"]["searched"])
