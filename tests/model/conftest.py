from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.config.pipeline import Pipeline

FEATURES = {
    "user": {"kind": "id", "tower": "query"},
    "device": {"kind": "category", "tower": "query"},
    "when": {"kind": "time"},
    "recent": {"kind": "history", "length": 5},
    "item": {"kind": "id", "tower": "item"},
    "tags": {"kind": "categories", "tower": "item", "from": "items"},
    "title": {"kind": "text", "tower": "item"},
    "shape": {"kind": "vector", "tower": "item", "size": 3},
    "week": {"kind": "count", "days": 7},
}
VOCABULARIES = {
    "user": [f"u{i}" for i in range(30)],
    "item": [f"i{i}" for i in range(20)],
    "device": ["phone", "tv"],
    "tags": ["red", "green", "blue"],
}


def _pipeline(features: dict | None = None, **tables) -> Pipeline:
    base = {
        "pipeline": {"name": "tiny"},
        "source": {"events": "/none/dt={date}/", "items": "/none/items/dt={date}/"},
        "columns": {"user": "user", "item": "item", "time": "time"},
        "features": features or FEATURES,
        "train": {"dimension": 8, "layers": [16], "batch_size": 16},
    }
    for table, keys in tables.items():
        base[table] = {**base.get(table, {}), **keys}
    return Pipeline.model_validate(base)


def _architecture(pipeline: Pipeline | None = None, widths: dict | None = None, **vocabularies):
    from model.towers.architecture import design

    words = VOCABULARIES | vocabularies
    tokens = {name: pa.array(values, pa.string()) for name, values in words.items()}
    return design(pipeline or _pipeline(), tokens, widths)


def _columns(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    recent = rng.integers(1, 21, (rows, 5), dtype=np.int32)
    recent[rng.random((rows, 5)) < 0.3] = 0
    return {
        "user": rng.integers(1, 31, rows, dtype=np.int32),
        "device": rng.integers(0, 3, rows, dtype=np.int32),
        "when_hour": rng.integers(1, 25, rows, dtype=np.int32),
        "when_weekday": rng.integers(1, 8, rows, dtype=np.int32),
        "recent": recent,
        "item": rng.integers(1, 21, rows, dtype=np.int32),
        "tags": rng.integers(0, 4, (rows, 2), dtype=np.int32),
        "title": rng.integers(1, 51, (rows, 4), dtype=np.int32),
        "shape": rng.random((rows, 3), dtype=np.float32),
        "week": rng.random(rows, dtype=np.float32),
    }


def _rows(n: int, seed: int = 0, **more: np.ndarray):
    """Rows of a day in order of time, each with reward 1; `more` are other columns."""
    from model.data.training_rows import Rows

    columns = {**_columns(n, seed), **more}
    ids = {name: columns[name].astype(np.int64) for name in ("user", "item")}
    time = np.sort(np.random.default_rng(seed).integers(0, 24 * 3_600_000_000, n))
    return Rows(features=columns, **ids, reward=np.ones(n, np.float32), time=time)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """A small recommender: `features`, `pipeline(features, **tables)`, `architecture(pipeline, widths,
    **vocabularies)`, transformed `columns(rows, seed)` and `rows(n, seed, **columns)`.
    """
    makers = {"pipeline": _pipeline, "architecture": _architecture, "columns": _columns}
    return SimpleNamespace(features=FEATURES, rows=_rows, **makers)
