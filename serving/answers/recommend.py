"""Answers: the items for users, and the items like an item."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from serving.answers.answer import Answer, AnswerWarnings
from serving.answers.filtered_search import Seen, search_without
from serving.answers.retrieval import chosen, find
from serving.requests.query_rows import PAST, Requests, complete
from serving.requests.request_model import ALLOW, DENY, EXCLUDE, SEEN, Refused
from serving.version.filters import Filter, Groups, Selected, Values, both
from serving.version.known_values import Unknown, select
from serving.version.loaded_version import Version
from twinspire_core.errors import UsageError
from twinspire_core.messages import nearest_names
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import list_lengths, list_rows

_COMPARED = 100_000  # ids of items, seconds


class Asked(TypedDict, total=False):
    """How lists are made for all requests; `recommend` explains it."""

    exclude_seen: bool
    allow: Values | None
    deny: Values | None
    source: str | None


def recommend(
    version: Version,
    requests: Sequence[dict[str, Any]] | pa.Table,
    k: int,
    *,
    exclude_seen: bool | Sequence[bool] = False,
    allow: Values | None = None,
    deny: Values | None = None,
    source: str | None = None,
    now: datetime | None = None,
) -> Answer:
    """Recommends items.

    Args:
      version: what answers.
      requests: [B] JSON objects (serving/requests/request_model.py), or what `Requests.table` makes of
        them.
      k: items per request; with k above the catalogue all of it comes back, and a note says so.
      exclude_seen: leave out the history, and what the version knows the user to have taken; for
        all requests, or for each. The ids under `exclude` never come back.
      allow: values by attribute; items must have one of them (serving/version/filters.py), besides
        what each request says.
      deny: values by attribute; items must have none of them, likewise.
      source: of `serving.answers.retrieval.SOURCES`; by default the mix where the version carries
        one, else the two-tower.
      now: the time of the request, in the pipeline's zone; by default the present.

    Raises:
      Refused: a request is not understood, or a number in it is too much for the query tower.
        UsageError: k is below 1, a filter of all requests is not understood, or the version has no
        such source.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, found {k}.")
    table = (
        requests if isinstance(requests, pa.Table) else Requests(version.pipeline).table(requests)
    )
    unknown = version.vocabularies.unknown(table)
    table, known = complete(table, version.users, now or datetime.now(version.pipeline.zone))
    seen = _seen(version, table, [EXCLUDE])
    if np.any(exclude_seen):
        past = _seen(version, table, [SEEN, version.pipeline.history_name, PAST])
        asked = np.broadcast_to(exclude_seen, len(table))[past.query]
        seen = Seen(
            np.concatenate([seen.query, past.query[asked]]),
            np.concatenate([seen.row, past.row[asked]]),
        )
    common = select(version.pipeline.corpus.attributes, version.attributes, allow, deny)
    source, groups = chosen(version, source), _groups(version, table, common)
    found = find(version, table, k, source, seen, groups)
    name = version.pipeline.history_name
    history = table[name] if name else None
    return Answer(
        rows=found.rows,
        scores=found.scores,
        widened=found.widened,
        told=_notes(version, found.rows, k, len(version.index), groups, unknown),
        known=known,
        history=history,
        source=source,
        names=found.names,
        shares=found.shares,
    )


def similar(
    version: Version, item: str, k: int, *, allow: Values | None = None, deny: Values | None = None
) -> Answer:
    """The items whose vectors are nearest to an item's own, the item itself aside. Filters as for
    `recommend`.

    Raises:
      UsageError: the item is not in the catalogue, k is below 1, or a filter is not understood.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, found {k}.")
    row = int(version.rows([item])[0])
    if row == NONE:
        near = nearest_names(item, version.ids, 3, compared=_COMPARED)
        hint = (
            f"Did you mean {', '.join(near)}?"
            if near
            else "Ids are those of the items in the logs."
        )
        raise UsageError(
            f"An item is one of the {len(version.items):,} of version {version.id}; {item!r} is"
            f" not. {hint}"
        )
    own = Seen(np.zeros(1, np.int64), np.array([row]))
    selected = select(version.pipeline.corpus.attributes, version.attributes, allow, deny)
    passing = selected.passing if selected else None
    found = search_without(version.index, np.array(version.index.vectors[[row]]), k, own, passing)
    groups = Groups((selected,), np.zeros(1, np.int64))
    return Answer(*found, told=_notes(version, found.rows, k, len(version.index) - 1, groups, {}))


def _seen(version: Version, table: pa.Table, columns: list[str | None]) -> Seen:
    """What the given columns of item ids hold, as far as it is in the catalogue."""
    pairs = list(_pairs(version, table, [name for name in columns if name in table.column_names]))
    if not pairs:
        return Seen(np.zeros(0, np.int64), np.zeros(0, np.int64))
    query, row = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return Seen(query, row)


def _pairs(
    version: Version, table: pa.Table, columns: list[str | None]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for name in columns:
        lists = table[name].combine_chunks()
        rows = version.rows(lists.flatten())
        query = list_rows(list_lengths(lists))
        yield query[rows != NONE], rows[rows != NONE].astype(np.int64)


def _groups(version: Version, table: pa.Table, common: Selected | None) -> Groups:
    """The requests by what they let through, together with what all of them do.

    Raises:
      Refused: the version cannot tell what a request lets through.
    """
    if table[ALLOW].null_count + table[DENY].null_count == 2 * len(table):
        return Groups((common,), np.zeros(len(table), np.int64))
    number = dict[Filter, int]()
    of = [
        number.setdefault(Filter(*one), len(number))
        for one in zip(table[ALLOW].to_pylist(), table[DENY].to_pylist(), strict=True)
    ]
    selected = list[Selected | None]()
    for wanted, n in number.items():
        try:
            own = version.attributes.select(wanted) if wanted != Filter() else None
        except ValueError as e:
            raise Refused(of.index(n), str(e)) from e
        selected.append(both(own, common))
    return Groups(tuple(selected), np.array(of))


def _notes(
    version: Version, rows: np.ndarray, k: int, items: int, groups: Groups, unknown: Unknown
) -> AnswerWarnings:
    counts = (rows != NONE).sum(1)
    return AnswerWarnings(
        version=version.id, k=k, items=items, counts=counts, groups=groups, unknown=unknown
    )
