"""Answers: the items for users."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from serving.answers.answer import Answer, AnswerWarnings
from serving.answers.basis import read_bases
from serving.answers.encoded_queries import encode_queries
from serving.answers.list_rules import RULED, Ruling, retrieve_ruled
from serving.answers.ranking import Explanations
from serving.answers.retrieval import Retrieved
from serving.answers.seen_items import items_to_leave_out
from serving.requests.list_request import ListRequest
from serving.requests.query_rows import Requests, complete
from serving.requests.request_model import ALLOW, DENY, Refused
from serving.version.attributes import select
from serving.version.filters import NO_FILTER, Filter, Groups, Selected, both
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import POPULAR, TWO_TOWER
from twinspire_core.search.index import NONE


def recommend(
    version: Version,
    requests: Sequence[dict[str, Any]] | pa.Table,
    options: ListRequest,
    *,
    now: datetime | None = None,
) -> Answer:
    """Recommends items.

    Args:
      version: what answers.
      requests: [B] JSON objects (serving/requests/request_model.py), or what `Requests.table` makes
        of them. The ids under `exclude` never come back.
      options: for all of them. With k above the corpus all of it comes back, and a warning says so.
      now: the time of the request, in the pipeline's zone; by default the present.

    Raises:
      Refused: a request is not understood, or a number in it is too much for the query tower.
      UsageError: the filter of all requests is not understood, or the version has no such source.
    """
    source = version.choose_source(options.source)
    version = version.answering(source)
    pipeline = version.pipeline
    asked = requests
    if not isinstance(asked, pa.Table):
        asked = Requests(pipeline).table(asked)
    # Warnings are about what a request says, not about what is filled in from stored users.
    unknown = version.vocabularies.unknown(asked)
    moment = now or datetime.now(pipeline.zone)
    table, known = complete(asked, version.users, moment, pipeline.history_name)
    bases = read_bases(pipeline, asked, known)
    seen = items_to_leave_out(version, table, version.leaves_out_seen(options.exclude_seen))
    groups = _group_by_filter(version, table, options.filter)
    # The fusion has weights for unknown users; the two-tower alone has not.
    is_popular = np.array([basis == "nothing" for basis in bases], bool)
    is_popular &= options.source is None and source == TWO_TOWER
    queries = encode_queries(version, table, source, is_popular)
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
        list_sources=np.where(is_popular, POPULAR, source).tolist(),
        names=lists.names,
        shares=lists.shares,
        reasons=_explain(version, lists),
    )


def _explain(version: Version, lists: Retrieved) -> Explanations | None:
    """What moved the items that the ranker has put where they are; None if nothing was asked for."""
    if lists.values is None or lists.shares is None or version.ranker is None:
        return None
    by_source = lists.shares[:, :, : len(version.ranker.sources)]
    return Explanations(version, lists.values, np.any(by_source > 0, axis=2))


def _group_by_filter(version: Version, table: pa.Table, of_all: Filter) -> Groups:
    """The requests by what they let through, together with what all of them do.

    Raises:
      Refused: the version cannot tell what a request lets through.
      UsageError: nor what all of them do.
    """
    common = select(version.attributes, of_all)
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
        if wanted != NO_FILTER:
            try:
                own = version.attributes.select(wanted)
            except ValueError as e:
                raise Refused(of.index(number), str(e)) from e
        selected.append(both(own, common))
    return Groups(tuple(selected), np.array(of))
