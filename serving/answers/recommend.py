"""Answers: the items for users, and the items like an item."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from serving.answers.answer import Answer, AnswerWarnings
from serving.answers.encoded_queries import encode_queries
from serving.answers.filtered_search import Seen, search_without
from serving.answers.list_rules import RULED, Ruling, draw_of, retrieve_ruled, rules_of
from serving.answers.ranking import Reasons, explain_lists
from serving.answers.retrieval import Retrieved, retrieve
from serving.requests.query_rows import STORED_PAST, Requests, complete
from serving.requests.request_model import ALLOW, DENY, EXCLUDE, SEEN, Refused
from serving.version.filters import Filter, Groups, Selected, Values, both
from serving.version.known_values import Unknown, select
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import MIX
from twinspire_core.errors import UsageError
from twinspire_core.messages import nearest_names
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import list_lengths, list_rows
from twinspire_core.sources import personal_counts

_COMPARED = 100_000  # ids of items that a mistyped one is compared with, which takes seconds
_ALL_NEW = "new_share changes nothing where exclude_seen leaves out what the user had"


class ListOptions(TypedDict, total=False):
    """How lists are made for all requests; `recommend` explains it."""

    exclude_seen: bool | None
    allow: Values | None
    deny: Values | None
    source: str | None
    explain: bool
    rules: bool | None
    new_share: float | None
    explore: bool


def recommend(
    version: Version,
    requests: Sequence[dict[str, Any]] | pa.Table,
    k: int,
    *,
    exclude_seen: bool | Sequence[bool] | None = None,
    allow: Values | None = None,
    deny: Values | None = None,
    source: str | None = None,
    explain: bool = False,
    rules: bool | None = None,
    new_share: float | None = None,
    explore: bool = True,
    stands_in: bool = False,
    now: datetime | None = None,
) -> Answer:
    """Recommends items.

    Args:
      version: what answers.
      requests: [B] JSON objects (serving/requests/request_model.py), or what `Requests.table` makes
        of them.
      k: items per request; with k above the corpus all of it comes back, and a warning says so.
      exclude_seen: leave out the history, and what the version knows the user to have taken; for
        all requests, or for each; by default as the version's own setting says. The ids under
        `exclude` never come back.
      allow: values by attribute; items must have one of them (serving/version/filters.py), besides
        what each request says.
      deny: values by attribute; items must have none of them, likewise.
      source: of `twinspire_core.config.source_names.ANSWERING`; by default what
        `Version.choose_source` says.
      explain: say of each item that a ranker lists why it is where it is.
      rules: whether the rules of the pipeline file hold (`[lists]`); by default they do, for the
        sources of `RULED` (serving/answers/list_rules.py).
      new_share: the share of each list that is new to the user, instead of the pipeline file's.
      explore: whether the pipeline file's places for exploration are kept.
      stands_in: whether the source stands in for one of `RULED`, so that the rules hold for it too.
      now: the time of the request, in the pipeline's zone; by default the present.

    Raises:
      Refused: a request is not understood, or a number in it is too much for the query tower.
      UsageError: k is below 1, `new_share` is no share, a filter of all requests is not understood,
        or the version has no such source.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, found {k}.")
    source = version.choose_source(source)
    version = version.answering(source)
    table = requests
    if not isinstance(table, pa.Table):
        table = Requests(version.pipeline).table(table)
    # Warnings are about what a request says, not about what is filled in from stored users.
    unknown = version.vocabularies.unknown(table)
    history = version.pipeline.history_name
    moment = now or datetime.now(version.pipeline.zone)
    table, known = complete(table, version.users, moment, history)
    if exclude_seen is None:
        exclude_seen = version.exclude_seen
    seen = _items_to_leave_out(version, table, exclude_seen)
    common = select(version.pipeline.corpus.attributes, version.attributes, allow, deny)
    groups = _group_by_filter(version, table, common)
    held = rules_of(version.pipeline.lists, rules, new_share, explore=explore)
    queries = encode_queries(version, table, source)
    about_rules = None
    if held.hold and (stands_in or source in RULED):
        had = _listed_in(version, table, _had_columns(version) if held.go_by_past else [])
        ruling = Ruling(held, had, draw_of(table, held.exploration, moment.date()))
        lists, about_rules = retrieve_ruled(
            version, queries, k, source, seen, groups, ruling, explain=explain
        )
        if new_share and np.all(exclude_seen):
            about_rules = replace(about_rules, of_all=(*about_rules.of_all, _ALL_NEW))
    else:
        lists = retrieve(version, queries, k, source, seen, groups, explain=explain)
    weights = None
    if source == MIX and version.fusion is not None:
        weights = version.fusion.origin
    return Answer(
        rows=lists.rows,
        scores=lists.scores,
        widened=lists.widened,
        warnings=replace(
            _warnings(version, lists.rows, k, len(version.items), groups, unknown),
            rules=about_rules,
        ),
        known=known,
        history=table[history] if history else None,
        source=source,
        weights=weights,
        names=lists.names,
        shares=lists.shares,
        reasons=_explain(version, lists),
    )


def _explain(version: Version, lists: Retrieved) -> list[Reasons] | None:
    """What moved the items that the ranker has put where they are; None if nothing was asked for."""
    if lists.values is None or lists.shares is None or version.ranker is None:
        return None
    by_source = lists.shares[:, :, : len(version.ranker.sources)]
    return explain_lists(version, lists.values, np.any(by_source > 0, axis=2))


def similar(
    version: Version, item: str, k: int, *, allow: Values | None = None, deny: Values | None = None
) -> Answer:
    """The items whose vectors are nearest to an item's own, the item itself aside. Filters as for
    `recommend`.

    Raises:
      UsageError: the item is not in the corpus, k is below 1, or a filter is not understood.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, found {k}.")
    version = version.published  # what came after it has no vector
    row = int(version.rows([item])[0])
    if row == NONE:
        raise _unknown_item(version, item)
    itself = Seen(np.zeros(1, np.int64), np.array([row]))
    selected = select(version.pipeline.corpus.attributes, version.attributes, allow, deny)
    passing = selected.passing if selected else None
    vectors = np.array(version.index.vectors[[row]])
    nearest = search_without(version.index, vectors, k, itself, passing)
    groups = Groups((selected,), np.zeros(1, np.int64))
    others = len(version.index) - 1
    return Answer(*nearest, warnings=_warnings(version, nearest.rows, k, others, groups, {}))


def _unknown_item(version: Version, item: str) -> UsageError:
    near = nearest_names(item, version.ids, 3, compared=_COMPARED)
    if near:
        hint = f"Did you mean {', '.join(near)}?"
    else:
        hint = "Ids are those of the items in the logs."
    return UsageError(
        f"An item is one of the {len(version.items):,} of version {version.id}; {item!r} is"
        f" not. {hint}"
    )


def _items_to_leave_out(
    version: Version, table: pa.Table, exclude_seen: bool | Sequence[bool]
) -> Seen:
    excluded = _listed_in(version, table, [EXCLUDE])
    if not np.any(exclude_seen):
        return excluded
    seen = _listed_in(version, table, _had_columns(version))
    wanted = np.broadcast_to(exclude_seen, len(table))[seen.query]
    return Seen(
        np.concatenate([excluded.query, seen.query[wanted]]),
        np.concatenate([excluded.row, seen.row[wanted]]),
    )


def _had_columns(version: Version) -> list[str | None]:
    """The columns that say what users had, also before the days of their histories."""
    return [SEEN, version.pipeline.history_name, STORED_PAST, personal_counts.ITEMS]


def _listed_in(version: Version, table: pa.Table, columns: list[str | None]) -> Seen:
    """The items that the given columns of item ids hold, as far as they are in the corpus."""
    queries = [np.zeros(0, np.int64)]
    rows = [np.zeros(0, np.int64)]
    for name in columns:
        if name not in table.column_names:
            continue
        lists = table[name].combine_chunks()
        row = version.rows(lists.flatten())
        in_corpus = row != NONE
        queries.append(list_rows(list_lengths(lists))[in_corpus])
        rows.append(row[in_corpus].astype(np.int64))
    return Seen(np.concatenate(queries), np.concatenate(rows))


def _group_by_filter(version: Version, table: pa.Table, common: Selected | None) -> Groups:
    """The requests by what they let through, together with what all of them do.

    Raises:
      Refused: the version cannot tell what a request lets through.
    """
    # Most requests have no filter: there is one group then, and no row is looked at.
    if table[ALLOW].null_count + table[DENY].null_count == 2 * len(table):
        return Groups((common,), np.zeros(len(table), np.int64))
    numbers: dict[Filter, int] = {}
    of = [
        numbers.setdefault(Filter(allow, deny), len(numbers))
        for allow, deny in zip(table[ALLOW].to_pylist(), table[DENY].to_pylist(), strict=True)
    ]
    selected: list[Selected | None] = []
    for wanted, number in numbers.items():
        own = None
        if wanted != Filter():
            try:
                own = version.attributes.select(wanted)
            except ValueError as e:
                raise Refused(of.index(number), str(e)) from e
        selected.append(both(own, common))
    return Groups(tuple(selected), np.array(of))


def _warnings(
    version: Version, rows: np.ndarray, k: int, items: int, groups: Groups, unknown: Unknown
) -> AnswerWarnings:
    counts = (rows != NONE).sum(1)
    return AnswerWarnings(
        version=version.id, k=k, items=items, counts=counts, groups=groups, unknown=unknown
    )
