"""Small rankers, fitted on made-up rows, as files of a version."""

from collections.abc import Callable, Sequence

import lightgbm
import numpy as np

from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.ranker_files import FORMAT, MODEL, RankerFile


def files(
    sources: Sequence[str],
    features: Sequence[str],
    wanted: Callable[[np.ndarray], np.ndarray],
    *,
    serves: str | None = "ranked",
    number: int = FORMAT,
    rows: np.ndarray | None = None,
    untimed: bool = False,
) -> dict[str, bytes]:
    """A ranker and the gate's verdict on it.

    Args:
      sources: whose lists it ranks.
      features: the features that it uses.
      wanted: scores of rows, [M, F] with whole numbers from 0 to 11.
      serves: what the gate says.
      number: of the format.
      rows: fitted on, [M, F] float32; made up by default.
      untimed: whether some of them are of queries without times.
    """
    if rows is None:
        rows = _made_up(len(features))
    options = {"objective": "regression", "min_data_in_leaf": 1, "num_threads": 1, "verbose": -1}
    booster = lightgbm.train(
        options, lightgbm.Dataset(rows, np.ascontiguousarray(wanted(rows))), 40
    )
    described = RankerFile(format=number, sources=sources, features=features, untimed=untimed)
    return {
        RankerFile.FILE: described.dump(),
        MODEL: booster.model_to_string().encode(),
        GateVerdict.FILE: GateVerdict(accepted=True, serves=serves).dump(),
    }


def _made_up(features: int) -> np.ndarray:
    rows = np.random.default_rng(0).integers(0, 12, (2000, features))
    return rows.astype(np.float32)
