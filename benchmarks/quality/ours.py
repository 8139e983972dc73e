"""Two-towers of ours that are trained for the benchmark alone, and what every contender comes to."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality import tower_inputs
from benchmarks.quality.command import cpu_seconds
from benchmarks.quality.lists import LENGTH
from benchmarks.quality.prepare import Prepared, override
from model.evaluation.tower_lists import load
from twinspire.runs import runner
from twinspire.runs.day_run import DayRun
from twinspire_core.contracts import model_bundle
from twinspire_core.metrics.ranking import top_k


class Fitted(NamedTuple):
    """What a contender came to.

    Attributes:
      ranked: by case, [Q, 600] positions in the catalogue, -1 behind the end.
      cpu: CPU seconds of training and of making the lists.
      unseen: by case, the same without what the query's user had before, where a contender makes such
        lists by itself; else that is taken out of `ranked`.
    """

    ranked: Mapping[str, np.ndarray]
    cpu: float
    unseen: Mapping[str, np.ndarray] | None = None


def fit(prepared: Prepared, settings: Mapping[str, Any], seed: int) -> Fitted:
    """Trains both towers from scratch by the train stage, and searches the catalogue exactly.

    Args:
      prepared: the split.
      settings: put over the pipeline file's.
      seed: `train.seed`.
    """
    p = override(prepared.pipeline, {**settings, "train.seed": seed})
    begin = cpu_seconds()
    tower_inputs.make(prepared)
    told = runner.run_stage(DayRun(p, prepared.split.last), "train", mode="full", force=True)
    attempt = Path(told["attempt"])
    try:
        query, item = (
            load(attempt / name) for name in (model_bundle.QUERY_TOWER, model_bundle.ITEM_TOWER)
        )
        vectors = item(tower_inputs.corpus(prepared).to_arrow())
        ranked = {
            case.name: top_k(
                query(tower_inputs.queries(prepared, case).to_arrow()), vectors, LENGTH
            )
            for case in prepared.split.cases
        }
    finally:
        shutil.rmtree(attempt)  # towers and state of this size add up
    return Fitted(ranked, cpu_seconds() - begin)
