"""Requests become rows of raw query features (serving/requests/request_model.py says what they
hold). A left-out time is now; any other left-out feature is missing.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.requests.request_model import (
    ALLOW,
    DENY,
    EXCLUDE,
    SEEN,
    USER,
    Refused,
    RequestModel,
)
from serving.version.user_store import STORED_PAST, UserStore
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.errors import TwinspireError, UsageError, shorten
from twinspire_core.search.ragged import list_lengths, newest_of
from twinspire_core.sources import personal_counts

STORED_EVENTS = "_past_events"
"""Column of stored users: how many events `STORED_PAST` is of."""
STORED_HISTORY = "_stored_history"
"""The newest events of stored users, oldest first, whatever history a request has."""
_OF_USERS = (STORED_PAST, STORED_EVENTS, *personal_counts.COLUMNS)
STRINGS = pa.list_(pa.string())
TIME = pa.int64()  # of the two columns of a time; no other feature is an integer


class Requests:
    """The requests that a pipeline's versions understand, and the rows that they become.

    Attributes:
      model: what they may hold.
      features: columns of the query features.
      layout: columns of a table of requests: `_user`, `_seen` (the whole history), `_exclude`,
        `_allow` and `_deny` (JSON, in one form), and the query features.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.model = RequestModel(pipeline)
        query = pipeline.tower("query")
        self.features = pa.schema(
            [column for name, f in query.items() for column in feature_columns(name, f)]
        )
        others = [
            pa.field(USER, pa.string()),
            pa.field(SEEN, STRINGS),
            pa.field(EXCLUDE, STRINGS),
            pa.field(ALLOW, pa.string()),
            pa.field(DENY, pa.string()),
        ]
        self.layout = pa.schema([*others, *self.features])
        self._id = pipeline.user_id
        self._histories = pipeline.of_kind(HistoryFeature)

    def table(self, requests: Sequence[dict[str, Any]]) -> pa.Table:
        """Checks requests and lays them out; see `RequestModel.parse` and `lay_out`."""
        return self.lay_out(
            [self.model.parse(request, row) for row, request in enumerate(requests)]
        )

    def lay_out(self, parsed: Sequence[dict[str, Any]]) -> pa.Table:
        """Lays out what `RequestModel.parse` made of requests.

        Returns: [N] rows of `layout`; null is left out.

        Raises:
          Refused: a text cannot be stored as UTF-8.
        """
        columns = {
            field.name: _array([values.get(field.name) for values in parsed], field)
            for field in self.layout
            if field.name not in (self._id, *self._histories)
        }
        # The user's id and the history are features as well, where the pipeline declares them so.
        if self._id:
            columns[self._id] = columns[USER]
        for name, history in self._histories.items():
            columns[name] = _newest(columns[SEEN], history.length)
        return pa.table(columns, schema=self.layout)


def complete(
    table: pa.Table, store: UserStore | None, now: datetime, history: str | None = None
) -> tuple[pa.Table, np.ndarray | None]:
    """Fills what requests leave out: from the stored users, and times by the clock.

    Args:
      table: of `Requests.table`.
      store: the version's users; times are never taken from it.
      now: in the pipeline's zone.
      history: the history feature, if there is one.

    Returns: the rows, with `_past`, `_past_events` and `_stored_history` where there is a store, and
    whether each user is known, [N] bool, or None.
    """
    known = None
    columns = dict(zip(table.column_names, table.columns, strict=True))
    if store is not None:
        stored, known = store.find(table[USER].to_pylist())
        columns |= _filled_from_users(table, stored, history)
    # What is filled in from users has whole numbers too, which are no times.
    for field in table.schema:
        if field.type == TIME:
            value = now.hour if field.name.endswith("_hour") else now.weekday()
            columns[field.name] = pc.fill_null(columns[field.name], value)
    return pa.table(columns), known


def _filled_from_users(
    table: pa.Table, stored: pa.Table, history: str | None
) -> dict[str, pa.ChunkedArray]:
    """Columns of requests with what is stored of their users, and further ones of these alone."""
    columns = {name: stored[name] for name in _OF_USERS if name in stored.column_names}
    for field in table.schema:
        if field.name == USER or field.name not in stored.column_names:
            continue
        of_user = stored[field.name]
        # What the pipeline file has in another form by now is missing, as it is for the towers
        # (twinspire_core/contracts/model_bundle.py).
        if of_user.type == field.type and field.type != TIME:
            columns[field.name] = pc.coalesce(table[field.name], of_user)
    if history in stored.column_names and stored[history].type == STRINGS:
        columns[STORED_HISTORY] = stored[history]
    return columns


def user_error(pipeline: Pipeline, version: str, user: str) -> TwinspireError:
    """What to say when a user is asked for and the version carries none."""
    example = json.dumps(RequestModel(pipeline).example(user), ensure_ascii=False)
    return UsageError(
        f"A user is looked up in the version's users, and {version} carries none: personal data is"
        " published only with serving.user_store = true. Set that and publish a version, or give"
        f" the features yourself: write lines like\n  {example}\ninto a file (a key that is left"
        " out is missing; a time is now) and run\n  twinspire recommend PIPELINE --queries"
        " FILE.jsonl --k 10 --out recs.jsonl"
    )


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write and UTF-8 cannot
        for row, value in enumerate(values):
            try:
                pa.array([value], field.type)
            except UnicodeEncodeError as e:
                raise Refused(
                    row, f"{field.name.strip('_')} is text, found {shorten(value)}: {e.reason}"
                ) from e
        raise


def _newest(lists: pa.Array, length: int) -> pa.Array:
    """The last so many entries of each list; null stays null."""
    lengths = list_lengths(lists)
    if lengths.max(initial=0) <= length:
        return lists
    return newest_of(lists, np.minimum(lengths, length))
