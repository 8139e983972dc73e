"""What a list rests on.

stored_user   the version knows the user
history       the request's history
features      other features of the request
id            the user's id alone, of a version that carries no users: it may or may not have been trained on
nothing       none of these: the answer is the one for anybody at this time
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from serving.requests.query_rows import TIME
from serving.requests.request_model import ALLOW, DENY, EXCLUDE, SEEN, USER
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.search.ragged import list_lengths

Basis = Literal["stored_user", "history", "features", "id", "nothing"]


def read_bases(pipeline: Pipeline, requests: pa.Table, known: np.ndarray | None) -> list[Basis]:
    """What the list of each request rests on.

    Args:
      pipeline: whose requests.
      requests: [B] rows of `serving.requests.query_rows.Requests`, as they were asked.
      known: [B] bool, whether the version knows the user; None if it carries no users.
    """
    # The user's id and the history are features too, and are looked at by their own columns.
    others = {USER, SEEN, EXCLUDE, ALLOW, DENY, pipeline.user_id}
    others |= {*pipeline.of_kind(HistoryFeature)}
    features = [
        column.name
        for column in requests.schema
        if column.name not in others and column.type != TIME
    ]
    has_features = np.zeros(len(requests), bool)
    for name in features:
        has_features |= _is_there(requests[name])
    by_id = known is None and pipeline.user_id is not None
    found: list[Basis] = np.select(
        [
            np.zeros(len(requests), bool) if known is None else known,
            list_lengths(requests[SEEN].combine_chunks()) > 0,
            has_features,
            _is_there(requests[USER]) & by_id,
        ],
        ["stored_user", "history", "features", "id"],
        "nothing",
    ).tolist()
    return found


def _is_there(column: pa.ChunkedArray) -> np.ndarray:
    there: np.ndarray = column.is_valid().to_numpy()
    return there
