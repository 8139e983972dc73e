"""Working files of a day as the stages leave them, small: enough to publish."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index_builder import index_stage
from index_builder.registry.registry import Registry
from tests.object_servers import fresh_place
from tests.tiny_pipeline import tiny_pipeline
from twinspire_core import storage
from twinspire_core.contracts.attempts import Parent, StageContext
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.sources import co_occurrence

ITEMS = 300


@pytest.fixture
def pipeline(request, tmp_path):
    """A recommender whose working files and registry lie on the disk, or in the object store that
    the parameter names.
    """
    scheme = getattr(request, "param", "disk")
    in_store = scheme != "disk"
    return make_pipeline(fresh_place(request, scheme) if in_store else tmp_path / "place")


def make_pipeline(place, **tables):
    made = {
        "pipeline": {"name": "tiny", "work_root": f"{place}/work"},
        "registry": {"root": f"{place}/registry"},
        "serving": {"tensorflow": False},  # the towers are made up
    }
    return tiny_pipeline(**made | tables)


@pytest.fixture
def registry(pipeline) -> Registry:
    return Registry(pipeline.registry.root, pipeline.name)


@pytest.fixture
def tiny_file(pipeline, tmp_path) -> str:
    """A pipeline file with the same places."""
    file = tmp_path / "tiny.toml"
    file.write_text(f"""
        pipeline = {{ name = "tiny", work_root = "{pipeline.pipeline.work_root}" }}
        source = {{ events = "{tmp_path}/logs/dt={{date}}/" }}
        columns = {{ user = "user", item = "item", time = "time" }}
        registry = {{ root = "{pipeline.registry.root}" }}
        features = {{ user = {{ kind = "id", tower = "query" }}, item = {{ kind = "id", tower = "item" }} }}
        """)
    return str(file)


@pytest.fixture
def context(pipeline, tmp_path):
    """Makes a day's working files and the context of its publish stage."""

    def make(
        day,
        *,
        recall=0.2,
        users=500,
        asked=None,
        pipeline=pipeline,
        parent=None,
        items=ITEMS,
        seed=0,
        promote="auto",
        line=None,
    ):
        home = f"{pipeline.pipeline.work_root}/tiny/dt={day}"
        local = tmp_path / f"made-{day}-{seed}"
        _features(local / "features", items)
        baseline = {"recall@50": 0.2} if parent else None
        metrics = {
            "holdout": {"users": users, "candidate": {"recall@50": recall}, "baseline": baseline}
        }
        if line is not None:
            metrics["line"] = line
        if asked is not None:  # of the parent, on this day
            metrics["progressive"] = {"users": 7, "recall@50": asked}
            metrics["fixed_order"] = {"progressive": {"users": 7, "recall@50": asked * 2}}
            metrics["baselines"] = {
                "most_popular": {"recall@50": asked / 4},
                "purchase_history": {"recall@50": asked / 2},
            }
        _train(local / "train")
        _measure(local / "measure", metrics)
        _embed(local / "embed", items, seed)
        stages = ("features", "train", "measure", "embed")
        inputs = {stage: f"{home}/{stage}/0001-{seed:08x}" for stage in stages}
        for stage, uri in inputs.items():
            storage.upload_tree(local / stage, uri)
        index = f"{home}/index/0001-{seed:08x}"
        of_day = StageContext(pipeline=pipeline, day=day, mode="full", inputs=inputs, out=index)
        index_stage.run(of_day)
        return replace(
            of_day,
            mode="incremental" if parent else "full",
            parent=parent,
            inputs={**inputs, "index": index},
            out=f"{home}/publish/0001-{seed:08x}",
            promote=promote,
        )

    return make


@pytest.fixture
def parent():
    """The parent of a day, as the runner finds it."""

    def find(pipeline, day):
        root, name = pipeline.registry.root, pipeline.name
        actual = Registry(root, name).accepted_before(day)
        home = f"{root}/{name}/versions/{actual.version}" if actual else ""
        made = actual and {stage: actual.sources[stage] for stage in ("train", "measure")}
        return actual and Parent(day=actual.date, version=actual.version, home=home, **made)

    return find


def names(items):
    """Ids whose order as strings is not their order as numbers."""
    return [f"i{n}" for n in range(items)]


def _features(folder, items):
    """The corpus in two shards, the later ids first; users."""
    ids = names(items)
    corpus = {"_item": ids, "_name": [f"name of {i}" for i in ids], "item": ids}
    corpus |= {"_popular": [*range(items)], "_lately": [0] * items}
    corpus["_attribute_brand"] = ["b"] * items
    _shards(folder / "corpus/end", pa.table(corpus))
    # i1 and i10 go together: rows of the corpus in order of id, where i10 is the third.
    rows = pa.array([[sorted(ids).index("i10")], [sorted(ids).index("i1")]], pa.list_(pa.int32()))
    near = pa.table({"_item": ["i1", "i10"], "_rows": rows, "_similarities": [[0.5], [0.5]]})
    _shards(folder / "co_occurrence/end", near.cast(co_occurrence.SCHEMA))
    (folder / "users").mkdir()
    users = {"_user": ["u"], "_last_time": [datetime(2024, 5, 1)], "user": ["u"]}
    pq.write_table(pa.table(users), folder / "users/part-0.parquet")


def _train(folder):
    for tower in ("query_tower", "item_tower"):
        (folder / tower / "variables").mkdir(parents=True)
        (folder / tower / "saved_model.pb").write_text(tower)
        (folder / tower / "variables/variables.index").write_text(tower)


def _measure(folder, metrics):
    folder.mkdir(parents=True)
    FixedOrder.of(("two_tower", "co_occurrence"), half_life="7d").write(folder)
    (folder / "metrics.json").write_text(json.dumps({**metrics, "train": {"loss": []}}))


def _embed(folder, items, seed):
    rng = np.random.default_rng(seed)
    for name, key, ids in (
        ("items", "_item", names(items)),
        ("queries", "_user", [f"u{n}" for n in range(400)]),
    ):
        vectors = rng.normal(size=(len(ids), 4)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
        _shards(folder / name, pa.table({key: ids, "vector": flat}))


def _shards(folder: Path, table):
    folder.mkdir(parents=True)
    half = len(table) // 2
    pq.write_table(table.slice(half), folder / "part-0.parquet")
    pq.write_table(table.slice(0, half), folder / "part-1.parquet")
