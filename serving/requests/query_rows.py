"""Requests, as JSON objects, become rows of raw query features.

    {"user": "u7", "history": ["i3", "i9"], "exclude": ["i1"], "device": "phone", "when_hour": 20,
    "when_weekday": 4,
     "allow": {"category": ["shoes", "bags"]}, "deny": {"brand": "acme"}}

Every key may be left out. `user` is also the value of the user's id feature, `history` (oldest
first) that of the history feature; serving/version/filters.py says what `allow` and `deny` hold;
all others are features by their names. A left-out time is now; any other left-out feature is
missing. docs/requests.md explains them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from json import dumps
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.requests.request_values import OutOfRange, Parse, parser, text, texts
from serving.version.filters import UnknownAttribute, condition
from serving.version.user_store import UserStore
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.errors import TwinspireError, UsageError
from twinspire_core.messages import nearest_names, shorten
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_places

USER, SEEN, EXCLUDE, PAST, PAST_EVENTS = "_user", "_seen", "_exclude", "_past", "_past_events"
ALLOW, DENY = "_allow", "_deny"
STRINGS = pa.list_(pa.string())
TIME = pa.int64()  # of the two columns of a time; no other feature is an integer
_FILTERS = {"allow": ALLOW, "deny": DENY}


class Refused(UsageError):
    """A request that cannot be answered as it is.

    Attributes:
      row: its place among the others, from 0.
      kind: `unknown_key`, `wrong_type`, `out_of_range` or `given_twice`.
      key: the key that it is about; None if it is about the whole request.
      near: the known key that looks most like an unknown one.
    """

    def __init__(
        self,
        row: int,
        reason: str,
        kind: str = "wrong_type",
        key: str | None = None,
        near: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.row, self.kind, self.key, self.near = row, kind, key, near


@dataclass(frozen=True, slots=True)
class Column:
    """Where a key's values go, and how they are checked."""

    name: str
    parse: Parse


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object out of its keys and values, for `json.loads` as `object_pairs_hook`.

    Raises:
      Refused: a key is given twice. JSON leaves open which one counts.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise Refused(
            0, f"A key stands once in an object; {shorten(key)} is given twice", "given_twice", key
        )
    return found


class Requests:
    """The requests that a pipeline's versions understand.

    Attributes:
      keys: what a request may hold.
      layout: columns of a table of requests: `_user`, `_seen` (the whole history), `_exclude`,
        `_allow` and `_deny` (JSON, in one form), and the query features.
      sizes: lengths of vectors, by column.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._p = pipeline
        query = pipeline.tower("query")
        self.schema = pa.schema(
            [column for name, f in query.items() for column in feature_columns(name, f)]
        )
        self._id = pipeline.user_id
        self._history = pipeline.history_name
        self.keys = {
            column.name: Column(column.name, parser(f, column.name))
            for name, f in query.items()
            for column in feature_columns(name, f)
        }
        meta = [
            (USER, pa.string()),
            (SEEN, STRINGS),
            (EXCLUDE, STRINGS),
            (ALLOW, pa.string()),
            (DENY, pa.string()),
        ]
        self.layout = pa.schema([*(pa.field(*column) for column in meta), *self.schema])
        self.sizes = {name: f.vector_size for name, f in query.items() if f.vector_size}
        # Last, so that these names mean the same in every pipeline; the features' own names are as
        # good.
        self.keys |= dict.fromkeys(["user", *([self._id] if self._id else [])], Column(USER, text))
        self.keys |= dict.fromkeys(
            ["history", *([self._history] if self._history else [])], Column(SEEN, texts)
        )
        self.keys["exclude"] = Column(EXCLUDE, texts)
        attributes = pipeline.corpus.attributes
        self.keys |= {
            key: Column(name, lambda value: condition(attributes, value))
            for key, name in _FILTERS.items()
        }

    def table(self, requests: Sequence[dict[str, Any]]) -> pa.Table:
        """Checks requests and lays them out as columns; see `parse` and `lay_out`."""
        return self.lay_out([self.parse(request, row) for row, request in enumerate(requests)])

    def parse(self, request: dict[str, Any], row: int = 0) -> dict[str, Any]:
        """Checks one request.

        Args:
          request: a JSON object.
          row: its place among others, for the error.

        Returns: values by column; what is left out, or null, is not there.

        Raises:
          Refused: it has an unknown key, or a value of the wrong type.
        """
        if not isinstance(request, dict):
            raise Refused(row, f"A request is a JSON object, found {shorten(request)}")
        parsed = dict[str, Any]()
        for key, value in request.items():
            if value is not None:
                column = self.keys.get(key) or self._unknown(row, key)
                self._set(parsed, column, row, key, value)
        return parsed

    def lay_out(self, parsed: Sequence[dict[str, Any]]) -> pa.Table:
        """Lays out what `parse` made of requests.

        Returns: [N] rows of `layout`; null is left out.

        Raises:
          Refused: a text cannot be stored as UTF-8.
        """
        there = [field for field in self.layout if field.name not in (self._id, self._history)]
        columns = {
            field.name: _array([one.get(field.name) for one in parsed], field) for field in there
        }
        return self.share(columns, len(parsed))

    def share(self, columns: dict[str, pa.Array], rows: int) -> pa.Table:
        """The whole table: the user's id and the history are features as well, where the pipeline
        declares them so.

        Args:
          columns: the others, in any order; what is not there is null.
          rows: how many.
        """
        if self._id:
            columns[self._id] = columns[USER]
        for name, history in self._p.of_kind(HistoryFeature).items():
            columns[name] = _newest(columns[SEEN], history.length)
        whole = {
            f.name: columns[f.name] if f.name in columns else pa.nulls(rows, f.type)
            for f in self.layout
        }
        return pa.table(whole, schema=self.layout)

    def _set(self, parsed: dict[str, Any], column: Column, row: int, key: str, value: Any) -> None:
        try:
            found = column.parse(value)
        except UnknownAttribute as e:
            raise Refused(row, f"{key} {e}", "unknown_key", f"{key}.{e.name}", e.near) from e
        except (ValueError, TypeError, OverflowError) as e:
            kind = "out_of_range" if isinstance(e, OutOfRange) else "wrong_type"
            raise Refused(row, f"{key} {e}", kind, key) from e
        if parsed.get(column.name, found) != found:
            raise Refused(
                row, f"{key} is given twice, under two names, with two values", "given_twice", key
            )
        parsed[column.name] = found

    def _unknown(self, row: int, key: str) -> NoReturn:
        near = nearest_names(key, self.keys)
        known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.keys)}"
        message = f"{shorten(key)} is no feature of the query tower; {known}"
        raise Refused(row, message, "unknown_key", key, near[0] if near else None)

    def example(self, user: str | None = None) -> dict[str, Any]:
        """A request that shows all keys."""
        samples = {
            pa.string(): "…",
            pa.float32(): 1.0,
            TIME: 0,
            STRINGS: ["…"],
            pa.list_(pa.float32()): [0.1],
        }
        shared = {self._id, self._history}
        features = {f.name: samples[f.type] for f in self.schema if f.name not in shared}
        return {"user": user or "u1", "history": ["item1", "item2"]} | features


def complete(
    table: pa.Table, store: UserStore | None, now: datetime
) -> tuple[pa.Table, np.ndarray | None]:
    """Fills what requests leave out: from the stored users, and times by the clock.

    Args:
      table: of `Requests.table`.
      store: the version's users; times are never taken from it.
      now: in the pipeline's zone.

    Returns: the rows, with `_past` and `_past_events` where there is a store, and whether each user
    is known, [N] bool, or None.
    """
    known = None
    if store is not None:
        stored, known = store.find(table[USER].to_pylist())
        for field in table.schema:
            there = stored[field.name] if field.name in stored.column_names else None
            # What the pipeline file has in another form by now is missing, as it is for the towers
            # (twinspire_core/contracts/model_bundle.py).
            if (
                there is not None
                and there.type == field.type
                and field.name != USER
                and field.type != TIME
            ):
                table = _set_column(table, field.name, pc.coalesce(table[field.name], there))
        for name in (PAST, PAST_EVENTS):
            if name in stored.column_names:
                table = table.append_column(name, stored[name])
    for field in table.schema:
        if field.type == TIME:
            value = now.hour if field.name.endswith("_hour") else now.weekday()
            table = _set_column(table, field.name, pc.fill_null(table[field.name], value))
    return table, known


def user_error(pipeline: Pipeline, version: str, user: str) -> TwinspireError:
    """What to say when a user is asked for and the version carries none."""
    example = dumps(Requests(pipeline).example(user), ensure_ascii=False)
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
    newest = list_places(lengths) >= np.repeat(lengths - length, lengths)
    kept = lists.flatten().filter(pa.array(newest))
    return arrow_lists(np.minimum(lengths, length), kept, missing=lists.is_null())


def _set_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values)
