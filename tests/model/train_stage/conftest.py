"""Both stages on a made-up shop: a first day from scratch, and one that goes on from it."""

from types import SimpleNamespace

import pytest

from beam_jobs import features_stage
from model.ranking import fit_orders
from tests.model.train_stage.two_days import (
    BEST,
    FIRST,
    SECOND,
    context,
    train_and_measure,
    with_train,
)
from tests.shop import lay_out
from twinspire_core.config import pipeline as pipeline_file
from twinspire_core.config.tables.training import AuxiliaryConfig
from twinspire_core.contracts.attempts import BestAccepted


@pytest.fixture(autouse=True)
def few_users(monkeypatch):
    _fit_on_few(monkeypatch)


def _fit_on_few(patch):
    """The shop has some 30 users held out of a day; few trees are enough for them."""
    patch.setattr(fit_orders, "_MOST_TREES", 10)
    patch.setattr(fit_orders, "LEAST_USERS", 20)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Two days of the shop, features and towers."""
    folder = tmp_path_factory.mktemp("shop")
    # Determinism would be switched on for the whole process; test_loop.py starts its own.
    settings = {"deterministic": False, "auxiliary": AuxiliaryConfig(weight=0.3)}
    p = with_train(pipeline_file.load(lay_out(folder)), **settings)
    p = p.model_copy(update={"columns": p.columns.model_copy(update={"label": "stars"})})
    at = {name: folder / name for name in ("features1", "train1", "features2", "train2")}
    with pytest.MonkeyPatch.context() as patch:
        _fit_on_few(patch)
        features_stage.run(context(p, FIRST, at["features1"]))
        first = train_and_measure(context(p, FIRST, at["train1"], features_at=at["features1"]))
        features_stage.run(context(p, SECOND, at["features2"], parent=at["train1"]))
        # The same towers under another name: what is measured of them is known from the parent.
        best = BestAccepted(version=BEST, home=str(at["train1"]), ahead=0.01, gone=("gone",))
        before = {"features_at": at["features2"], "parent": at["train1"], "best": best}
        second = train_and_measure(context(p, SECOND, at["train2"], **before))
    return SimpleNamespace(pipeline=p, first=first, second=second, **at)
