"""When an index takes over an earlier version's settings, and when they are tuned again or searched
for anew.
"""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from index_builder.tuning.kind_choice import Wanted, unfit
from index_builder.tuning.settings_search import work
from tests.index_builder.test_index_stage import run_small, stage
from tests.index_builder.tuning.vectors import clustered
from twinspire_core.contracts.attempts import Start
from twinspire_core.contracts.index_figures import IndexFigures
from twinspire_core.search.index import Settings

ITEMS, K, NOISE = 8_000, 20, 1.2
WANTED = {"exact_below": 0, "tree_above": 0, "k": K, "recall_target": 0.9}
YESTERDAY = "2023-12-31-0000000a"


def loose(rows: int, seed: int = 0, noise: float = NOISE) -> np.ndarray:
    """Unit vectors around 100 centres, the farther from these the more noise."""
    centres = np.random.default_rng(99).normal(size=(100, 32))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 100, rows)] + noise * rng.normal(size=(rows, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


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
    told = run(folder, loose(ITEMS), loose(600, 1))
    return folder, told, Start(version=YESTERDAY, index=IndexFigures.model_validate(told))


def test_settings_that_still_do_are_kept_and_nothing_else_is_tried(tmp_path, yesterday):
    folder, told, start = yesterday
    assert told["kind"] == "tree" and len(told["tried"]) > 5
    assert told["tuning"] == {
        "how": "tuned",
        "version": None,
        "why": "there is no earlier version",
        "searched": "2024-01-01",
        "items": ITEMS,
        "kinds": ["tree"],
        "work": round(work(Settings(**told["settings"]), ITEMS)),
    }
    tuning = {**told["tuning"], "searched": "2023-12-07"}
    start = replace(start, index=IndexFigures.model_validate({**told, "tuning": tuning}))
    now = run(tmp_path, loose(ITEMS), loose(600, 1), start)
    assert now["settings"] == told["settings"] and len(now["tried"]) == 1
    expected = {"how": "inherited", "version": YESTERDAY, "why": "", "searched": "2023-12-07"}
    assert now["tuning"] == {**told["tuning"], **expected}
    assert now["reasons"] == told["reasons"] and now["recall"] == told["recall"]
    files = [
        {
            p.relative_to(home): p.read_bytes()
            for p in (home / "index/index").rglob("*")
            if p.is_file()
        }
        for home in (folder, tmp_path)
    ]
    assert files[0] == files[1] and len(files[0]) > 3


def test_settings_that_miss_the_target_are_tuned_from_where_they_were(tmp_path, yesterday):
    _, told, start = yesterday
    vectors, queries = loose(ITEMS, 0, 1.26), loose(600, 1, 1.26)
    now = run(tmp_path, vectors, queries, start)
    assert now["tuning"]["how"] == "tuned" and now["tuning"]["version"] == YESTERDAY
    assert (
        f"with the settings of {YESTERDAY} recall was {now['tried'][0]['recall']:.4f}"
        in now["tuning"]["why"]
    )
    assert now["recall"] >= now["recall_target"]
    then, found = (work(Settings(**figures["settings"]), ITEMS) for figures in (told, now))
    assert then < found < then * 4 / 3
    assert {point["leaves"] for point in now["tried"]} == {told["settings"]["leaves"]}
    assert (
        now["tuning"]["searched"] == told["tuning"]["searched"]
        and now["tuning"]["work"] == told["tuning"]["work"]
    )
    assert len(now["tried"]) < len(told["tried"])


def test_settings_that_would_become_much_dearer_are_searched_for_anew(tmp_path, yesterday):
    _, told, start = yesterday
    now = run(tmp_path, loose(ITEMS, 0, 1.6), loose(600, 1, 1.6), start)
    assert now["tuning"]["version"] is None and "recall was" in now["tuning"]["why"]
    assert now["tuning"]["searched"] == "2024-01-01" and now["recall"] >= now["recall_target"]
    assert now["tuning"]["work"] > told["tuning"]["work"] * 4 / 3


def told_of(**figures) -> Start:
    tuning = {"how": "tuned", "version": None, "why": "", "searched": "2024-01-01", "items": 9_000}
    tuning |= {"kinds": ["tree"], "work": 5_000}
    index = {
        "kind": "tree",
        "recall": 0.95,
        "recall_error": 0.001,
        "settings": {"kind": "tree", "k": K, "rescored": K, "leaves": 90, "leaves_searched": 9},
        "queries": {"tuning": 200, "measuring": 200, "source": "users"},
        "tried": [],
        "k": K,
        "recall_target": 0.9,
        "dimension": 8,
        "items": 9_000,
        "tuning": tuning,
        "reasons": ["9,000 items"],
    }
    return Start(version=YESTERDAY, index=IndexFigures.model_validate(index | figures))


@pytest.mark.parametrize(
    ("items", "width", "kinds", "wanted", "start", "why"),
    [
        (9_000, 8, ("tree",), {}, told_of(), ""),
        (11_999, 8, ("tree",), {}, told_of(), ""),
        (12_000, 8, ("tree",), {}, told_of(), "12,000 items; there were 9,000 when"),
        (6_001, 8, ("tree",), {}, told_of(), ""),
        (6_000, 8, ("tree",), {}, told_of(), "6,000 items; there were 9,000 when"),
        # What counts is the size when they were searched for, not yesterday's: growth by a tenth a
        # day adds up.
        (12_000, 8, ("tree",), {}, told_of(items=11_500), "12,000 items; there were 9,000 when"),
        (
            9_000,
            7,
            ("tree",),
            {},
            told_of(),
            "vectors of 7 numbers; those of 2023-12-31-0000000a have 8",
        ),
        (9_000, 8, ("tree", "quantised"), {}, told_of(), "other kinds of index suit 9,000 items"),
        (9_000, 8, ("tree",), {"recall_target": 0.8}, told_of(), "was tuned for recall@20 0.9"),
        (9_000, 8, ("tree",), {}, told_of(k=10), "was tuned for recall@10 0.9"),
        (9_000, 8, ("tree",), {}, Start(why="it was rolled back"), "it was rolled back"),
    ],
)
def test_a_change_of_size_width_or_wishes_is_searched_for_anew(
    items, width, kinds, wanted, start, why
):
    found = unfit(
        start, np.zeros((items, width), np.float32), K, kinds, Wanted(**(WANTED | wanted))
    )
    assert why in found and bool(why) == bool(found)


def test_what_was_exact_stays_exact_without_a_codebook(tmp_path, monkeypatch):
    monkeypatch.setattr("twinspire_core.search.scann_index.ScannIndex.build", None)
    told = told_of(items=1_500, settings={"kind": "exact", "k": K}).index
    tuning = told.tuning.model_copy(update={"items": 1_500, "work": 3_000})
    told = told.model_copy(update={"tuning": tuning})
    now = run(
        tmp_path,
        clustered(1_500, 8),
        clustered(50, 8, seed=1),
        Start(version=YESTERDAY, index=told),
    )
    assert now["kind"] == "exact" and now["tuning"]["how"] == "inherited" and now["recall"] == 1
    assert now["tuning"]["version"] == YESTERDAY and date.fromisoformat(now["tuning"]["searched"])
