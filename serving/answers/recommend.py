"""Lists for users, and lists of items like an item."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from serving.answers.answer import Answer, AnswerWarnings, Explanations
from serving.answers.encoded_queries import encode_queries
from serving.answers.filtered_search import Seen, items_to_leave_out, search_without
from serving.answers.list_rules import RULED, Ruling, retrieve_ruled
from serving.answers.retrieval import Retrieved
from serving.requests.json_values import Refused
from serving.requests.query_rows import Basis, Requests, complete, read_bases
from serving.requests.request_model import ALLOW, DENY, ListRequest
from serving.version.filters import NO_FILTER, Filter, Groups, Selected
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import POPULAR, TWO_TOWER
from twinspire_core.errors import UsageError, nearest_names
from twinspire_core.search.index import NONE

_COMPARED = 100_000  # item ids that a mistyped one is compared with, which takes seconds


def recommend(
    version: Version,
    requests: Sequence[dict[str, Any]] | pa.Table,
    options: ListRequest,
    *,
    now: datetime | None = None,
) -> Answer:
    """Recommends items for B queries.

    Args:
      requests: [B] JSON objects (serving/requests/request_model.py), or rows of `Requests.table`.
      options: how all of the lists are made. If k is above the size of the corpus, all of it comes back
        with a warning.
      now: the time of the requests, in the pipeline's time zone; by default the present.

    Raises:
      Refused: a request has a wrong key or value, or a number that the query tower cannot take.
      UsageError: the filter in `options` is wrong, or the version has no such source.
    """
    source = version.choose_source(options.source)
    # Only some sources list items that came after the version.
    version = version.answering(source)
    pipeline = version.pipeline
    asked = requests
    if not isinstance(asked, pa.Table):
        asked = Requests(pipeline).table(asked)
    # Warnings are about what a request says, not about what stored users fill in.
    unknown = version.vocabularies.unknown(asked)
    moment = now or datetime.now(pipeline.zone)
    table, known = complete(asked, version.users, moment, pipeline.history_name)
    bases = read_bases(pipeline, asked, known)
    list_sources = _source_of_each(bases, options.source, source)
    seen = items_to_leave_out(version, table, version.leaves_out_seen(options.exclude_seen))
    groups = _group_by_filter(version, table, options.filter)
    queries = encode_queries(version, table, source, list_sources != source)
    ruling = Ruling.of(version, table, options) if source in RULED else None
    lists, about_rules = retrieve_ruled(version, queries, options, source, seen, groups, ruling)
    return Answer(
        rows=lists.rows,
        scores=lists.scores,
        widened=lists.widened,
        warnings=AnswerWarnings(
            version=version.id,
            k=options.k,
            items=len(version.items),
            counts=(lists.rows != NONE).sum(1),
            groups=groups,
            unknown=unknown,
            rules=about_rules,
        ),
        known=known,
        bases=bases,
        history=table[pipeline.history_name] if pipeline.history_name else None,
        source=source,
        list_sources=list_sources.tolist(),
        names=lists.names,
        shares=lists.shares,
        reasons=_explain(version, lists),
    )


def _source_of_each(bases: Sequence[Basis], asked: str | None, source: str) -> np.ndarray:
    """The source of each list, [B]: that of all, or what is popular lately where nothing is known of
    the user. The fixed order has weights for unknown users, and the ranker features. The two-tower has
    neither, so it gives way, unless a request asks for it by name.
    """
    nothing_known = np.array([basis == "nothing" for basis in bases], bool)
    gives_way = asked is None and source == TWO_TOWER
    return np.where(nothing_known & gives_way, POPULAR, source)


def _group_by_filter(version: Version, table: pa.Table, of_all: Filter) -> Groups:
    """The requests grouped by their own filters, each together with the filter of all requests.

    Raises:
      Refused: the version cannot apply the filter of a request.
      UsageError: it cannot apply the filter of all requests.
    """
    common = version.attributes.select_for_all(of_all)
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
        try:
            own = None if wanted == NO_FILTER else version.attributes.select(wanted)
        except ValueError as e:
            raise Refused(of.index(number), str(e)) from e
        if own and common:
            own = Selected(own.passing & common.passing, (*own.warnings, *common.warnings))
        selected.append(own or common)
    return Groups(tuple(selected), np.array(of))


def _explain(version: Version, lists: Retrieved) -> Explanations | None:
    """Why items are where they are; None unless explanations of the ranker are asked for."""
    ranker = version.ranker
    if lists.values is None or lists.shares is None or ranker is None:
        return None
    is_ranked = np.any(lists.shares > 0, axis=2)
    return Explanations(ranker, version.ranking_features, lists.values, is_ranked)


def similar(version: Version, item: str, options: ListRequest) -> Answer:
    """The items whose vectors are nearest to an item's own, without the item itself. Only `k` and
    `filter` of the options count.

    Raises:
      UsageError: the item is not in the corpus, or the filter is wrong.
    """
    version = version.published  # items that came after it have no vector
    row = int(version.rows([item])[0])
    if row == NONE:
        raise _unknown_item(version, item)
    itself = Seen(np.zeros(1, np.int64), np.array([row]))
    selected = version.attributes.select_for_all(options.filter)
    passing = selected.passing if selected else None
    vectors = np.array(version.index.vectors[[row]])
    nearest = search_without(version.index, vectors, options.k, itself, passing)
    warnings = AnswerWarnings(
        version=version.id,
        k=options.k,
        items=len(version.index) - 1,
        counts=(nearest.rows != NONE).sum(1),
        groups=Groups((selected,), np.zeros(1, np.int64)),
    )
    return Answer(*nearest, warnings=warnings)


def _unknown_item(version: Version, item: str) -> UsageError:
    near = nearest_names(item, version.ids, 3, compared=_COMPARED)
    if near:
        hint = f"Did you mean {', '.join(near)}?"
    else:
        hint = "Give an id as it is in the logs."
    return UsageError(
        f"Version {version.id} has {len(version.items):,} items, but no item {item!r}. {hint}"
    )
