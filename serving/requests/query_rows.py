"""Requests as rows of raw query features. Stored features of their users are filled in.

If a request leaves out the time, it is now. Any other feature that it leaves out is missing.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.requests.request_model import ALLOW, DENY, EXCLUDE, SEEN, USER, RequestModel
from serving.version.user_store import STORED_PAST, UserStore
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.errors import TwinspireError, UsageError
from twinspire_core.search.ragged import list_lengths, newest_of
from twinspire_core.sources import user_histories

Basis = Literal["stored_user", "history", "features", "id", "nothing"]
"""What the list for a request is based on:

    stored_user   the version knows the user
    history       the request's own history
    features      other features of the request
    id            only the user's id, in a version without stored users. The towers may have been trained on this user
    nothing       none of these: anybody gets this list at this time
"""
STORED_EVENTS = "_past_events"
"""Column of stored users: the number of events in their purchase history, `STORED_PAST`."""
STORED_HISTORY = "_stored_history"
"""The newest events of stored users, oldest first, also where the request has a history."""
_OF_USERS = (STORED_PAST, STORED_EVENTS, *user_histories.COLUMNS)
STRINGS = pa.list_(pa.string())
TIME = pa.int64()  # the two columns of a time feature; no other feature is an integer


class Requests:
    """The requests that a pipeline's versions understand, and their rows.

    Attributes:
      features: columns of the query features.
      layout: columns of a table of requests: `_user`, `_seen` (the whole history), `_exclude`,
        `_allow` and `_deny` (canonical JSON), and the query features.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.model = RequestModel(pipeline)
        query = pipeline.tower("query")
        self.features = pa.schema(
            [column for name, f in query.items() for column in feature_columns(name, f)]
        )
        types = {USER: pa.string(), SEEN: STRINGS, EXCLUDE: STRINGS}
        types |= {ALLOW: pa.string(), DENY: pa.string()}
        self.layout = pa.schema([*map(pa.field, types, types.values()), *self.features])
        self._id = pipeline.user_id
        self._histories = pipeline.of_kind(HistoryFeature)

    def table(self, requests: Sequence[dict[str, Any]]) -> pa.Table:
        """Checks requests and lays them out; see `RequestModel.parse` and `lay_out`."""
        return self.lay_out(
            [self.model.parse(request, row) for row, request in enumerate(requests)]
        )

    def lay_out(self, parsed: Sequence[dict[str, Any]]) -> pa.Table:
        """The rows of N requests that `RequestModel.parse` has checked.

        Returns: [N] rows of `layout`, null for what a request leaves out.
        """
        columns = {
            field.name: pa.array([values.get(field.name) for values in parsed], field.type)
            for field in self.layout
            if field.name not in (self._id, *self._histories)
        }
        # The user's id and the history are features too, where the pipeline file declares them.
        if self._id:
            columns[self._id] = columns[USER]
        for name, history in self._histories.items():
            columns[name] = _newest(columns[SEEN], history.length)
        return pa.table(columns, schema=self.layout)


def complete(
    table: pa.Table, store: UserStore | None, now: datetime, history: str | None = None
) -> tuple[pa.Table, np.ndarray | None]:
    """Fills in the keys that requests leave out: features from the stored users, times from the clock.

    Args:
      table: [N] rows of `Requests.table`.
      store: the version's users; None if it carries none. Times are never taken from it.
      now: the time of the requests, in the pipeline's time zone.
      history: name of the history feature, if the pipeline file has one.

    Returns: the rows, with `_past`, `_past_events` and `_stored_history` where there is a store; and
    [N] bool, whether each user is known, or None without a store.
    """
    known = None
    columns = dict(zip(table.column_names, table.columns, strict=True))
    if store is not None:
        stored, known = store.find(table[USER].to_pylist())
        columns |= _filled_from_users(table, stored, history)
    # By the requests' own columns: those of stored users have integers that are no times.
    for field in table.schema:
        if field.type == TIME and columns[field.name].null_count:
            value = now.hour if field.name.endswith("_hour") else now.weekday()
            columns[field.name] = pc.fill_null(columns[field.name], value)
    return pa.table(columns), known


def _filled_from_users(
    table: pa.Table, stored: pa.Table, history: str | None
) -> dict[str, pa.ChunkedArray]:
    """Columns of requests with stored features where they were left out, and columns of the stored
    users alone.
    """
    columns = {name: stored[name] for name in _OF_USERS if name in stored.column_names}
    for field in table.schema:
        # The id is the request's, even if the user is unknown.
        if field.name == USER or field.name not in stored.column_names:
            continue
        is_left_out = table[field.name].null_count > 0
        of_user = stored[field.name]
        # A feature that the pipeline file has changed since counts as missing, as it does for the
        # towers (twinspire_core/contracts/model_bundle.py).
        if is_left_out and of_user.type == field.type and field.type != TIME:
            columns[field.name] = pc.coalesce(table[field.name], of_user)
    if history in stored.column_names and stored[history].type == STRINGS:
        columns[STORED_HISTORY] = stored[history]
    return columns


def read_bases(pipeline: Pipeline, requests: pa.Table, known: np.ndarray | None) -> list[Basis]:
    """What the list of each of B requests is based on.

    Args:
      requests: [B] rows of `Requests.table`, before `complete` fills in what is missing.
      known: [B] bool, whether the version knows each user, or None; as `complete` gives it.
    """
    # The user's id and the history are features too; they are looked at by their own columns.
    names = {USER, SEEN, EXCLUDE, ALLOW, DENY, pipeline.user_id}
    names |= {*pipeline.of_kind(HistoryFeature)}
    has_features = np.zeros(len(requests), bool)
    for column in requests.schema:
        if column.name not in names and column.type != TIME:
            has_features |= _is_given(requests[column.name])
    by_id = known is None and pipeline.user_id is not None
    # The first condition that holds decides.
    return np.select(
        [
            np.zeros(len(requests), bool) if known is None else known,
            list_lengths(requests[SEEN].combine_chunks()) > 0,
            has_features,
            _is_given(requests[USER]) & by_id,
        ],
        ["stored_user", "history", "features", "id"],
        "nothing",
    ).tolist()


def user_error(pipeline: Pipeline, version: str, user: str) -> TwinspireError:
    """The error when a command names a user and the version stores no users."""
    example = json.dumps(RequestModel(pipeline).example(user), ensure_ascii=False)
    return UsageError(
        f"Version {version} stores no users, so no user can be looked up by an id. Set"
        " serving.user_store = true and publish a version. Or give the features of a user"
        f" yourself: write lines like\n  {example}\nto a file (a feature that is left out counts as"
        " missing, and a time as now), and run\n  twinspire recommend PIPELINE --queries"
        " FILE.jsonl --k 10 --out recs.jsonl"
    )


def _newest(lists: pa.Array, length: int) -> pa.Array:
    """The last `length` entries of each list; null stays null."""
    lengths = list_lengths(lists)
    if lengths.max(initial=0) <= length:
        return lists
    return newest_of(lists, np.minimum(lengths, length))


def _is_given(column: pa.ChunkedArray) -> np.ndarray:
    if column.null_count in (0, len(column)):  # saves a call of Arrow for most columns
        return np.full(len(column), column.null_count == 0)
    return column.is_valid().to_numpy()
