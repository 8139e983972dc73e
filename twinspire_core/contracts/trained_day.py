"""Files that the train stage writes for `measure`, which therefore needs no TensorFlow.

They have vectors of the day's queries and corpus, and facts about training:

    training.json         `TrainedDay`
    timings.json          `Timings`: seconds from the first batch to the last, examples a second
    vectors/before.npz    by a model that has not seen the day: the parent, or a first version before it
                          was trained on its last day; missing without either
    vectors/best.npz      by the best accepted version, where that is not the parent
    vectors/version.npz   by the day's version, of held-out users
    vectors/log_q.npy     [C] float32, natural log of each corpus item's share of the training rows;
                          missing without an estimate
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from twinspire_core import storage
from twinspire_core.contracts.day_metrics import (
    AuxiliaryFigures,
    BestMeasures,
    FrequencyFigures,
    TrainingFigures,
)
from twinspire_core.contracts.json_files import JsonFile

FOLDER = "vectors"
BEFORE, BEST, VERSION = "before.npz", "best.npz", "version.npz"
_LOG_Q = "log_q.npy"
# A prefix, so that names of evaluation sets cannot clash with the other arrays.
_PLACE = "place/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors of the queries of several evaluation sets, and of the corpus: U queries of a set, Q
    distinct queries of all sets, C items, D dimensions.

    Evaluation sets share many queries, and all events of a basket have the same query. So each distinct query
    is encoded and searched only once.

    Attributes:
      distinct: [Q, D] float32, vectors of the distinct queries.
      place: by evaluation set, [U] int64, the number of each query's distinct query.
      items: [C, D] float32.
    """

    distinct: np.ndarray
    place: Mapping[str, np.ndarray]
    items: np.ndarray

    def queries(self, name: str) -> np.ndarray:
        """Vectors of the queries of an evaluation set, [U, D] float32."""
        return np.asarray(self.distinct[self.place[name]])

    def write(self, attempt: Path, name: str) -> None:
        """Writes one of the files of a train attempt."""
        (attempt / FOLDER).mkdir(parents=True, exist_ok=True)
        by_set = {_PLACE + of_set: rows for of_set, rows in self.place.items()}
        arrays = {"distinct": self.distinct, "items": self.items, **by_set}
        # No pickles, because reading a pickle can run any code.
        np.savez(attempt / FOLDER / name, allow_pickle=False, **arrays)

    @classmethod
    def find(cls, attempt: str, name: str) -> Self | None:
        """Reads one of the files of a train attempt, local or remote; None where there is none."""
        arrays = _load(attempt, name)
        if arrays is None:
            return None
        sets = [key.removeprefix(_PLACE) for key in arrays.files if key.startswith(_PLACE)]
        place = {of_set: arrays[_PLACE + of_set] for of_set in sets}
        return cls(distinct=arrays["distinct"], place=place, items=arrays["items"])


def write_log_q(attempt: Path, log_q: np.ndarray) -> None:
    """Writes the estimated shares of a train attempt."""
    np.save(attempt / FOLDER / _LOG_Q, log_q, allow_pickle=False)


def find_log_q(attempt: str) -> np.ndarray | None:
    """The estimated shares of a train attempt, local or remote; None where there are none."""
    return _load(attempt, _LOG_Q)


def _load(attempt: str, name: str) -> Any:
    uri = storage.join(attempt, FOLDER, name)
    return np.load(BytesIO(storage.read_bytes(uri))) if storage.exists(uri) else None


class TrainedDay(JsonFile):
    """`training.json`.

    Attributes:
      parent_unread: features that the parent reads and the day lacks, or has in another form.
      best: the best accepted version before the day, not measured yet; None where no earlier versions
        are remembered.
      held_out_shares: by day, the share of users that was held out (model/evaluation/day_queries.py).
      gaps: `from`, `to` and `command` of days with logs that no version was trained on.
      auxiliary: the head that learns labels, with its measures; None without one.
      frequency: None without an estimate, or without rows.
    """

    FILE: ClassVar[str] = "training.json"

    train: TrainingFigures
    parent_unread: Sequence[str] = ()
    best: BestMeasures | None = None
    held_out_shares: Mapping[str, float] = {}
    gaps: Sequence[Mapping[str, str]] = ()
    auxiliary: AuxiliaryFigures | None = None
    frequency: FrequencyFigures | None = None
