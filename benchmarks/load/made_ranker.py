"""A version with a ranker of made-up labels, for load tests alone: its trees are as many, as large and
as deep as fitted ones, and go by all features, but what they prefer means nothing.
"""

import json
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import lightgbm
import numpy as np

from benchmarks.load import world
from index_builder.registry.registry import Registry
from serving.answers.encoded_queries import read_queries
from serving.requests.query_rows import Requests, complete
from serving.version.loaded_version import Version
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.config.source_registry import RANKED, TWO_TOWER
from twinspire_core.contracts import attempts, feature_schema
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.ranker_files import MODEL, RankerFile
from twinspire_core.contracts.version_manifest import FILE, USERS, File, Manifest
from twinspire_core.fusion.rank_fusion import DEPTH
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.ranking.ranker import RankingFeatures
from twinspire_core.sources.source import ScoredLists

_ASKED = 300
_TAKEN = 0.05
"""Share of the candidates that are said to have been taken."""
_TREES = 111
"""As many as the ranker of the groceries' version of 3 October 2017 has."""


def published(folder: Path, items: int) -> Path:
    """The pipeline file of a copy of the version of averaged histories that has such a ranker."""
    original = world.published(folder, "mean", items)
    pipeline = original.with_name("ranked.toml")
    if not (original.parent / "ranked" / "ready").exists():
        pipeline.write_text(world.PIPELINE.format(name="ranked", pooling="mean"))
        version = Version.open(load(original))
        verdict = GateVerdict(accepted=True, serves=RANKED)
        _publish(pipeline, version, {**_fit(version, items), GateVerdict.FILE: verdict.dump()})
        (original.parent / "ranked" / "ready").touch()
    return pipeline


def _fit(version: Version, items: int) -> dict[str, bytes]:
    """The files of a ranker."""
    order = version.fixed_order
    sources = version.candidate_sources
    pairs = _candidates(version, items)
    features = RankingFeatures.of(sources.tables)
    names = features.names(order.sources)
    values = features.values(pairs, names)
    rng = np.random.default_rng(0)
    places = values.argsort(axis=0).argsort(axis=0) / len(values)
    preferred = places @ rng.normal(size=len(names)) + rng.normal(size=len(values))
    taken = preferred > np.quantile(preferred, 1 - _TAKEN)
    options = {
        "objective": "lambdarank",
        "num_leaves": 31,
        "learning_rate": 0.05,
        "min_data_in_leaf": 50,
        "feature_fraction": 0.7,
        "seed": 0,
        "verbose": -1,
    }
    groups = np.bincount(pairs.query, minlength=_ASKED)
    data = lightgbm.Dataset(values, taken.astype(np.int8), group=groups)
    booster = lightgbm.train(options, data, _TREES)
    described = RankerFile(sources=order.sources, features=names)
    return {RankerFile.FILE: described.dump(), MODEL: booster.model_to_string().encode()}


def _candidates(version: Version, items: int) -> Pairs:
    """Those of some of the requests that are measured."""
    order = version.fixed_order
    sources = version.candidate_sources
    bodies = world.bodies(items, DEPTH, None, count=_ASKED)
    requests = [json.loads(body)["query"] for body in bodies]
    table, _ = complete(
        Requests(version.pipeline).table(requests), None, datetime.now(version.pipeline.zone)
    )
    vectors = version.encode(table)
    rows, scores = version.index.search(vectors, DEPTH)
    two_tower = ScoredLists(rows.astype(np.int64), scores)
    queries = read_queries(version, table, personal=True).with_given({TWO_TOWER: two_tower})
    lists = sources.retrieve(order.sources, queries, DEPTH)
    of_towers = Vectors(queries=vectors, items=version.index.vectors)
    return Pairs.of(lists, queries, len(version.items), of_towers)


def _publish(pipeline: Path, version: Version, added: dict[str, bytes]) -> None:
    """The version with other files, in the pipeline's own registry."""
    opened = load(pipeline)
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch, "staged")
        shutil.copytree(version.home, staged, ignore=shutil.ignore_patterns(FILE))
        # Its users have no counts of the half-lives that only a ranker reads
        features = attempts.place(version.pipeline, version.manifest.sources["features"])
        shutil.rmtree(staged / USERS)
        shutil.copytree(storage.join(features, feature_schema.USERS), staged / USERS)
        for name, content in added.items():
            (staged / name).write_bytes(content)
        found = storage.list_files(str(staged))
        digests = storage.file_digests(found)
        described = Manifest.create(
            pipeline=opened.name,
            day=version.manifest.date,
            files={one.path: File(sha256=digests[one.path], size=one.size) for one in found},
            settings=version.manifest.settings,
            items=version.manifest.items,
            dimension=version.manifest.dimension,
        )
        registry = Registry(opened.registry.root, opened.name)
        registry.publish(str(staged), described, accepted=True, reason="made for load tests")
