"""Days of the made-up shop for the two stages, and what is read of their attempts."""

import json
from dataclasses import replace
from datetime import date

import pyarrow.parquet as pq

from model import measure_stage, train_stage
from model.evaluation.day_queries import progressive_rows
from model.evaluation.ranked_lists import rank_encoded
from model.towers.architecture import design
from model.towers.export import vocabularies
from model.towers.two_tower import TwoTower
from model.train_stage import encode
from model.training import checkpoint
from model.training.warm_start import warm_start
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.attempts import Parent, StageContext
from twinspire_core.contracts.day_metrics import DayMetrics

FIRST = date(2024, 3, 9)
SECOND = date(2024, 3, 10)
BEST = "2024-03-08-00000000"


def context(p, day, out, *, features_at=None, parent=None, mode=None, best=None):
    if parent:
        homes = dict.fromkeys(("home", "train", "measure"), str(parent))
        parent = Parent(day=FIRST, version=f"{FIRST}-00000000", **homes)
    inputs = {"features": str(features_at)} if features_at else {}
    mode = mode or ("incremental" if parent else "full")
    given = {"parent": parent, "inputs": inputs, "best": best, "replays": parent is None}
    return StageContext(pipeline=p, day=day, mode=mode, out=str(out), **given)


def train_and_measure(ctx):
    """Both stages, into one folder: it then holds what a version does."""
    trained = train_stage.run(ctx)
    return trained | measure_stage.run(replace(ctx, inputs={**ctx.inputs, "train": ctx.out}))


def rank_with_towers(towers, corpus, evaluation_sets, k):
    """Lists by evaluation set, from raw features."""
    queries = {name: one.queries for name, one in evaluation_sets.items()}
    return rank_encoded(encode(towers, corpus, queries), evaluation_sets, k)


def with_train(p, **settings):
    return p.model_copy(update={"train": p.train.model_copy(update=settings)})


def metrics_of(attempt):
    return json.loads((attempt / DayMetrics.FILE).read_text())


def flat(measures, path=""):
    """Measures in one dictionary, to compare: those of slices and so on by their path."""
    measures = dict(enumerate(measures)) if isinstance(measures, list) else measures
    if not isinstance(measures, dict):
        return {path: measures} if not isinstance(measures, str) else {}
    parts = [flat(one, f"{path}/{name}") for name, one in measures.items()]
    return {key: value for part in parts for key, value in part.items()}


def towers_in_memory(p, features_at, attempt):
    model = TwoTower(design(p, vocabularies(features_at / "transform", p)), seed=99)
    state = checkpoint.load(attempt / model_bundle.STATE)
    warm_start(model, state, day=SECOND, keep=0, slot_decay=1.0)
    return model


def rows_trained_on(shop):
    rows = examples(shop).select(["_item", "_holdout"]).to_pylist()
    return [row for row in rows if not row["_holdout"]]


def examples(shop):
    """Those of the second day."""
    return pq.read_table(shop.features2 / "examples" / f"dt={SECOND}")


def day_queries(shop):
    """What the second day asks, and the corpus of its start."""
    rows = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    return rows, pq.read_table(shop.features2 / "corpus/start")
