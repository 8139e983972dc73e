"""Answers: the items for users."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from serving.answers.answer import Answer, AnswerWarnings
from serving.answers.encoded_queries import encode_queries
from serving.answers.list_rules import RULED, Ruling, retrieve_ruled, rules_of
from serving.answers.ranking import Explanations
from serving.answers.retrieval import Retrieved
from serving.answers.seen_items import items_to_leave_out
from serving.requests.query_rows import Requests, complete
from serving.requests.request_model import ALLOW, DENY, Refused
from serving.version.attributes import select
from serving.version.filters import Filter, Groups, Selected, Values, both
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import MIX
from twinspire_core.errors import UsageError
from twinspire_core.search.index import NONE


class ListOptions(TypedDict, total=False):
    """How lists are made for all requests; `recommend` explains it."""

    exclude_seen: bool | None
    allow: Values | None
    deny: Values | None
    source: str | None
    explain: bool
    rules: bool | None
    new_share: float | None


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
    pipeline = version.pipeline
    table = requests
    if not isinstance(table, pa.Table):
        table = Requests(pipeline).table(table)
    # Warnings are about what a request says, not about what is filled in from stored users.
    unknown = version.vocabularies.unknown(table)
    moment = now or datetime.now(pipeline.zone)
    table, known = complete(table, version.users, moment, pipeline.history_name)
    if exclude_seen is None:
        exclude_seen = version.exclude_seen
    seen = items_to_leave_out(version, table, exclude_seen)
    common = select(pipeline.corpus.attributes, version.attributes, allow, deny)
    groups = _group_by_filter(version, table, common)
    held = rules_of(pipeline.lists, rules, new_share)
    queries = encode_queries(version, table, source)
    ruling = None
    if held.hold and (stands_in or source in RULED):
        all_new = bool(new_share and np.all(exclude_seen))
        ruling = Ruling.of(version, table, held, all_new=all_new)
    lists, about_rules = retrieve_ruled(
        version, queries, k, source, seen, groups, ruling, explain=explain
    )
    return Answer(
        rows=lists.rows,
        scores=lists.scores,
        widened=lists.widened,
        warnings=AnswerWarnings(
            version=version.id,
            k=k,
            items=len(version.items),
            counts=(lists.rows != NONE).sum(1),
            groups=groups,
            unknown=unknown,
            rules=about_rules,
        ),
        known=known,
        history=table[pipeline.history_name] if pipeline.history_name else None,
        source=source,
        weights=version.fusion.origin if source == MIX and version.fusion else None,
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
