"""Makes lists for users, which follow the rules of `[lists]`, and lists of similar items.

Rules apply to lists of the ranker, the fixed order and the two-tower, and to the popular items that replace
the two-tower's list. A simpler source that a request names is not changed. Filters, `exclude` and
`exclude_seen` come before all rules: items that they leave out are not candidates.

Rules need more candidates than a list has items. Lists that the first candidates cannot fill, or that lack
new items, get eight times as many candidates. This repeats, up to the whole corpus.

B queries, L candidates, K places, S sources.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from serving.answers.answer import Answer, AnswerWarnings, Explanations, RuleWarnings
from serving.answers.encoded_queries import EncodedQueries, encode_queries
from serving.answers.filtered_search import (
    NOTHING_SEEN,
    Retrieved,
    Seen,
    items_had,
    items_to_leave_out,
    search_without,
)
from serving.answers.retrieval import retrieve
from serving.requests.json_values import Refused
from serving.requests.query_rows import Basis, Requests, complete, read_bases
from serving.requests.request_model import ALLOW, DENY, ListRequest
from serving.version.filters import Filter, Groups, Selected
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import FIXED_ORDER, POPULAR, RANKED, TWO_TOWER
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.errors import UsageError, nearest_names
from twinspire_core.fusion.reranking import (
    Candidates,
    CappedValues,
    choose,
    holds_share,
)
from twinspire_core.metrics.list_metrics import contains
from twinspire_core.search.index import NONE

RULED = (FIXED_ORDER, RANKED, TWO_TOWER)
"""Sources whose lists follow the rules."""
_ALL_NEW = "new_share has no effect with exclude_seen: all listed items are new to the user"
_SPARE = 100  # candidates at first, besides four for each place
_WIDER = 8  # times as many candidates in the next round
# A mistyped item id is compared with at most this many ids, which takes seconds.
_COMPARED = 100_000


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
      options: options of all lists. If k is larger than the corpus, lists have all items and a warning.
      now: the time of the requests, in the pipeline's time zone; by default the present.

    Raises:
      Refused: a request has a wrong key or value, or a number that is too large for the query tower.
      UsageError: the filter in `options` is wrong, or the version has no such source.
    """
    source = version.choose_source(options.source)
    # Only some sources can list items that are newer than the version.
    version = version.answering(source)
    pipeline = version.pipeline
    asked = requests
    if not isinstance(asked, pa.Table):
        asked = Requests(pipeline).table(asked)
    # Before stored values are filled in: warnings are about values in the request only.
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
    """The source of each list, [B]. If nothing is known about a user, `popular` replaces the two-tower,
    unless a request asks for the two-tower by name.
    """
    # The fixed order has weights for unknown users, and the ranker has features. The two-tower has
    # neither.
    nothing_known = np.array([basis == "nothing" for basis in bases], bool)
    gives_way = asked is None and source == TWO_TOWER
    return np.where(nothing_known & gives_way, POPULAR, source)


def _group_by_filter(version: Version, table: pa.Table, of_all: Filter) -> Groups:
    """Groups the requests by their own filters, combined with the filter of all requests.

    Raises:
      Refused: the version cannot apply the filter of a request.
      UsageError: it cannot apply the filter of all requests.
    """
    common = version.attributes.select(of_all)
    # Most requests have no filter. Then there is one group, without a look at any row.
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
            own_filter = version.attributes.select(wanted)
        except UsageError as e:
            raise Refused(of.index(number), str(e)) from e
        if own_filter and common:
            own_filter = Selected(
                own_filter.passing & common.passing, (*own_filter.warnings, *common.warnings)
            )
        selected.append(own_filter or common)
    return Groups(tuple(selected), np.array(of))


def _explain(version: Version, lists: Retrieved) -> Explanations | None:
    """Explanations by the ranker; None if they are not asked for."""
    ranker = version.ranker
    if lists.values is None or lists.shares is None or ranker is None:
        return None
    is_ranked = np.any(lists.shares > 0, axis=2)
    return Explanations(ranker, version.ranking_features, lists.values, is_ranked)


class _RuledLists(NamedTuple):
    """B lists of K items that follow the rules.

    Attributes:
      lacks_new: [B] bool, lists with too few new items.
      is_open: [B] bool, lists that more candidates could improve.
    """

    lists: Retrieved
    lacks_new: np.ndarray
    is_open: np.ndarray

    def replace(self, rows: np.ndarray, better: "_RuledLists") -> None:
        """Replaces the lists in `rows`. All others are no longer open."""
        for name in ("rows", "scores", "shares", "values"):
            if (values := getattr(self.lists, name)) is not None:
                values[rows] = getattr(better.lists, name)
        self.lists.widened[rows] = True
        self.lacks_new[rows] = better.lacks_new
        self.is_open[:] = False
        self.is_open[rows] = better.is_open


class Ruling(NamedTuple):
    """The rules for B lists.

    Attributes:
      known: items that the users had, which are not new to them; empty if no rule needs them.
      warnings: about rules without effect.
    """

    rules: ListsConfig
    known: Seen
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, version: Version, table: pa.Table, options: ListRequest) -> Self | None:
        """The rules of the pipeline file and of a request; None if there are none.

        Args:
          table: [B] rows of `serving.requests.query_rows.complete`.
        """
        # From the pipeline file and not from the version: a rollback must not bring an old cap back.
        rules = version.pipeline.lists if options.rules else ListsConfig()
        share = options.new_share
        if share is not None:
            rules = rules.model_copy(update={"new_share": share})
        if not rules.hold:
            return None
        known = items_had(version, table) if rules.new_share else NOTHING_SEEN
        all_new = share and version.leaves_out_seen(options.exclude_seen)
        return cls(rules, known, (_ALL_NEW,) if all_new else ())


def retrieve_ruled(
    version: Version,
    queries: EncodedQueries,
    options: ListRequest,
    source: str,
    seen: Seen,
    groups: Groups,
    ruling: Ruling | None,
) -> tuple[Retrieved, RuleWarnings | None]:
    """The best items of each query that follow the rules, and warnings about the rules (None without
    rules). Other arguments are those of `retrieve`.
    """
    if ruling is None:
        return retrieve(version, queries, options, source, seen, groups), None
    rules = ruling.rules
    known = ruling.known
    items = len(version.items)
    k = min(options.k, items)
    # All caps of a version are those of its pipeline file.
    capped, warnings = version.capped_values if rules.caps else (None, ())

    def ask(rows: np.ndarray, reach: int) -> _RuledLists:
        of_rows = Groups(groups.selected, groups.of[rows])
        lists = retrieve(
            version,
            queries.take(rows),
            options,
            source,
            seen.of(rows),
            of_rows,
            length=reach,
        )
        return _choose(lists, k, rules, known.of(rows), capped)

    # Few lists need more candidates than these. Only they are retrieved again.
    reach = min(items, 4 * k + _SPARE)
    ruled = ask(np.arange(len(queries.queries)), reach)
    while ruled.is_open.any() and reach < items:
        reach = min(items, reach * _WIDER)
        rows = np.flatnonzero(ruled.is_open)
        ruled.replace(rows, ask(rows, reach))
    about = RuleWarnings(
        caps=rules.caps if capped else {},
        lacks_new=ruled.lacks_new,
        of_all=(*warnings, *ruling.warnings),
    )
    return ruled.lists, about


def _choose(
    lists: Retrieved,
    k: int,
    rules: ListsConfig,
    had: Seen,
    capped: CappedValues | None,
) -> _RuledLists:
    """Chooses K of L candidates of each list.

    Args:
      lists: [B, L] candidates, best first.
      known: items that the users had.
      capped: the values that caps count; None without caps.
    """
    rows = lists.rows.astype(np.int64)
    is_new = ~contains(had.by_query(len(rows)), rows)
    columns = choose(
        Candidates(
            rows, is_new, capped.at(rows) if capped else np.zeros((*rows.shape, 0), np.int64)
        ),
        k,
        new_share=rules.new_share,
        caps=capped.caps if capped else None,
    )
    counts = (columns >= 0).sum(axis=1)
    lacks_new = ~holds_share(_at(is_new, columns, False), counts, rules.new_share)
    # Caps may allow fewer items than a list has places.
    most = min(k, capped.most) if capped else k
    # If the last place has a candidate, there may be more behind it.
    is_open = ((counts < most) | lacks_new) & (rows[:, -1] != NONE)
    chosen = lists._replace(
        rows=_at(lists.rows, columns, NONE),
        scores=_at(lists.scores, columns, np.nan),
        shares=None if lists.shares is None else _at(lists.shares, columns, 0),
        values=None if lists.values is None else _at(lists.values, columns, np.nan),
    )
    return _RuledLists(chosen, lacks_new, is_open)


def _at(values: np.ndarray, columns: np.ndarray, none: float) -> np.ndarray:
    """Values, [B, L] or [B, L, S], in some columns, [B, K]; `none` where the column is -1."""
    if values.ndim == 3:
        columns = columns[:, :, None]
    taken = np.take_along_axis(values, np.maximum(columns, 0), axis=1)
    return np.where(columns >= 0, taken, np.asarray(none, values.dtype))


def similar(version: Version, item: str, options: ListRequest) -> Answer:
    """The items whose vectors are nearest to an item's vector, without the item itself. Only the options
    `k` and `filter` count.

    Raises:
      UsageError: the item is not in the corpus, or the filter is wrong.
    """
    version = version.published  # newer items have no vector
    row = int(version.rows([item])[0])
    if row == NONE:
        raise _unknown_item(version, item)
    itself = Seen(np.zeros(1, np.int64), np.array([row]))
    selected = version.attributes.select(options.filter)
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
    return Answer(nearest.rows, nearest.scores, nearest.widened, warnings)


def _unknown_item(version: Version, item: str) -> UsageError:
    near = nearest_names(item, version.ids, 3, compared=_COMPARED)
    if near:
        hint = f"Did you mean {', '.join(near)}?"
    else:
        hint = "Give an id as it is in the logs."
    return UsageError(
        f"Version {version.id} has {len(version.items):,} items, but no item {item!r}. {hint}"
    )
