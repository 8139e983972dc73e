"""The rules of `[lists]`, applied to what is served (twinspire_core/fusion/reranking.py says what they
do).

They are for default lists: those of the ranker, the fixed order and the two-tower, and the popular items
in place of the two-tower's. A simpler source that a request names is given as it is. Filters, `exclude`
and `exclude_seen` come before any rule: what they leave out is no candidate.

More candidates are retrieved than a list has places. Lists that cannot be filled from these, or that lack
new items, get eight times as many, again and again, up to the whole corpus.

B queries, L candidates, K places, S sources.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from serving.answers.answer import RuleWarnings
from serving.answers.encoded_queries import EncodedQueries
from serving.answers.filtered_search import NOTHING_SEEN, Seen, items_had
from serving.answers.retrieval import Retrieved, retrieve
from serving.requests.request_model import ListRequest
from serving.version.filters import Groups
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.config.tables.deployment import ListsConfig
from twinspire_core.fusion.reranking import (
    Candidates,
    CappedAttribute,
    CappedValues,
    choose,
    holds_share,
)
from twinspire_core.metrics.list_metrics import contains
from twinspire_core.search.index import NONE

RULED = (FIXED_ORDER, RANKED, TWO_TOWER)
"""Sources whose lists follow the rules."""
_ALL_NEW = "new_share changes nothing where exclude_seen leaves out what the user had"
_SPARE = 100  # candidates at first, besides four for each place
_WIDER = 8  # times as many candidates in the next round

_OfCaps = tuple[CappedValues | None, list[str]]
"""The values that caps count, and warnings about caps that cannot be applied."""
# Weak keys: an entry goes when its version is swapped out.
_capped: "WeakKeyDictionary[Version, dict[tuple[tuple[str, int], ...], _OfCaps]]" = (
    WeakKeyDictionary()
)


class _RuledLists(NamedTuple):
    """B lists of K places that follow the rules.

    Attributes:
      lacks_new: [B] bool, lists with too few new items.
      is_open: [B] bool, lists that more candidates would make better.
    """

    lists: Retrieved
    lacks_new: np.ndarray
    is_open: np.ndarray

    def replace(self, rows: np.ndarray, better: "_RuledLists") -> None:
        """Replaces some lists; only these may be open after that."""
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
      known: items that the users had, which are not new to them; empty if no rule asks.
      warnings: about rules that change nothing.
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
    """The best items of each query that follow the rules, and warnings about these; None for warnings
    if there are no rules. Other arguments are those of `retrieve`.
    """
    if ruling is None:
        return retrieve(version, queries, options, source, seen, groups), None
    rules = ruling.rules
    known = ruling.known
    items = len(version.items)
    k = min(options.k, items)
    capped, warnings = _capped_values(version, rules.caps)

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

    # Few lists need more candidates than these, and only they are asked for again.
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


def _capped_values(version: Version, caps: Mapping[str, int]) -> _OfCaps:
    of_version = _capped.setdefault(version, {})
    key = tuple(caps.items())
    if key not in of_version:
        of_version[key] = _read_capped(version, caps)
    return of_version[key]


def _read_capped(version: Version, caps: Mapping[str, int]) -> _OfCaps:
    attributes: list[CappedAttribute] = []
    warnings: list[str] = []
    for name, cap in caps.items():
        try:
            attributes.append(CappedAttribute(*version.attributes.entries(name), cap))
        # A cap that cannot be applied is a warning: the list is still worth having.
        except ValueError as e:
            warnings.append(f"a cap {e}")
    if not attributes:
        return None, warnings
    return CappedValues.of(attributes, len(version.items)), warnings


def _choose(
    lists: Retrieved,
    k: int,
    rules: ListsConfig,
    known: Seen,
    capped: CappedValues | None,
) -> _RuledLists:
    """Chooses K of L candidates of each list.

    Args:
      lists: [B, L] candidates, best first.
      known: items that the users had.
      capped: the values that caps count; None without caps.
    """
    rows = lists.rows.astype(np.int64)
    is_new = ~contains(known.by_query(len(rows)), rows)
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
    # Where the last place has a candidate, a longer list may hold more.
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
