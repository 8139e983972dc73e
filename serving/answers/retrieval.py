"""Where the items of a list come from: the two-tower, a simpler source, or several, in one order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from serving.answers.encoded_queries import EncodedQueries
from serving.answers.filtered_search import Seen, search_without
from serving.answers.ranking import retrieve_ranked
from serving.requests.list_request import ListRequest
from serving.version.filters import Groups, Selected
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import FIXED_ORDER, POPULAR, RANKED, TWO_TOWER
from twinspire_core.fusion.rank_fusion import CONSTANT, DEPTH, FixedOrder
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries, ScoredLists


class Retrieved(NamedTuple):
    """Lists for B queries, of as many places as were asked for, or of as many as there are items.

    Attributes:
      rows: [B, K] int32, rows of the corpus, best first, `NONE` behind the end.
      scores: [B, K] float32, NaN there: the two-tower's cosines, the fixed order's or the ranker's
        scores, else 1 / (1 + place / CONSTANT).
      widened: [B] bool, whether the two-tower's first search found too few.
      names: S sources.
      shares: [B, K, S] float32, what each of them gave to the score, of a ranker's lists by the
        places in theirs; None if all is the two-tower's.
      values: [B, K, F] float32, what a ranker reads; None if it is not a ranker's, or they were not
        asked for.
    """

    rows: np.ndarray
    scores: np.ndarray
    widened: np.ndarray
    names: tuple[str, ...] = (TWO_TOWER,)
    shares: np.ndarray | None = None
    values: np.ndarray | None = None


def retrieve(
    version: Version,
    queries: EncodedQueries,
    options: ListRequest,
    source: str,
    seen: Seen,
    groups: Groups,
    *,
    length: int | None = None,
) -> Retrieved:
    """The best items of each query.

    Args:
      version: what answers.
      queries: B of them.
      options: for all of them; k items are wanted.
      source: of `Version.choose_source`.
      seen: what must not be listed.
      groups: what may be.
      length: how far the lists are given, where that is beyond k: their first k items are the same.
    """
    length = length or options.k
    parts: list[tuple[np.ndarray, Retrieved]] = []
    for members, selected in groups.queries():
        of_members, theirs = queries, seen
        if len(members) < len(queries.queries):
            of_members, theirs = queries.take(members), seen.of(members)
        lists = _retrieve_group(version, of_members, options, source, theirs, selected, length)
        parts.append((members, lists))
    return parts[0][1] if len(parts) == 1 else _join(parts, len(queries.queries))


def _join(parts: Sequence[tuple[np.ndarray, Retrieved]], queries: int) -> Retrieved:
    """Puts the lists of groups of queries in their places."""

    def placed(values: Sequence[np.ndarray]) -> np.ndarray:
        whole = np.empty((queries, *values[0].shape[1:]), values[0].dtype)
        for (members, _), part in zip(parts, values, strict=True):
            whole[members] = part
        return whole

    lists = [part for _, part in parts]
    shares = [part.shares for part in lists if part.shares is not None]
    values = [part.values for part in lists if part.values is not None]
    return Retrieved(
        rows=placed([part.rows for part in lists]),
        scores=placed([part.scores for part in lists]),
        widened=placed([part.widened for part in lists]),
        names=lists[0].names,
        shares=placed(shares) if shares else None,
        values=placed(values) if values else None,
    )


def _retrieve_group(
    version: Version,
    encoded: EncodedQueries,
    options: ListRequest,
    source: str,
    seen: Seen,
    selected: Selected | None,
    length: int,
) -> Retrieved:
    """Lists of queries with the same filter."""
    passing = selected.passing if selected else None
    k = min(options.k, len(version.items))
    length = min(length, len(version.items))
    sources = encoded.sources
    if sources is not None and passing is not None:
        sources = sources.among(passing)
    exclude = None
    if len(seen.query):
        exclude = seen.by_query(len(encoded.queries))
    if source == TWO_TOWER:
        near = Retrieved(*search_without(version.index, encoded.vectors, length, seen, passing))
        if sources is None or encoded.is_popular is None:
            return near
        popular = _retrieve_from(sources, POPULAR, encoded.queries, length, exclude)
        return _put_popular(near, popular, encoded.is_popular)
    assert sources is not None, "of `Version.choose_source`"
    if source not in (RANKED, FIXED_ORDER):
        return _retrieve_from(sources, source, encoded.queries, length, exclude)
    # A ranker reads places in whole lists: it leaves out what was seen at the end.
    left_out = seen.of_first(0) if source == RANKED else seen
    queries, widened = _with_two_tower(version, sources, encoded, k, source, left_out)
    if source == FIXED_ORDER:
        order = encoded.fixed_order
        assert order is not None, "of `Version.choose_source`"
        return _retrieve_in_order(order, sources, queries, k, widened, exclude, length)
    lists = retrieve_ranked(
        version,
        sources,
        queries,
        encoded.vectors,
        k,
        exclude,
        length=length,
        explain=options.explain,
    )
    names = version.sources_of(source)
    ended = _end_lists(lists.rows, lists.scores, widened, names, lists.shares)
    return ended._replace(values=lists.values)


def _put_popular(near: Retrieved, popular: Retrieved, is_popular: np.ndarray) -> Retrieved:
    """The two-tower's lists, and what is popular in place of some of them, [B] bool."""
    chosen = is_popular[:, None]
    assert popular.shares is not None
    by_tower = (near.rows != NONE)[:, :, None].astype(np.float32)
    return Retrieved(
        rows=np.where(chosen, popular.rows, near.rows),
        scores=np.where(chosen, popular.scores, near.scores),
        widened=near.widened & ~is_popular,
        names=(TWO_TOWER, *popular.names),
        shares=np.concatenate(
            [by_tower * ~chosen[:, :, None], popular.shares * chosen[:, :, None]], axis=2
        ),
    )


def _with_two_tower(
    version: Version,
    sources: CandidateSources,
    encoded: EncodedQueries,
    k: int,
    source: str,
    seen: Seen,
) -> tuple[Queries, np.ndarray]:
    """The queries with the two-tower's lists, if they are needed, of the ranker with all lists; and which
    took a wider search, [B] bool.
    """
    queries = encoded.queries
    names = version.sources_of(source)
    if TWO_TOWER not in names:
        return queries, np.zeros(len(queries), bool)
    # Items that came after the version have no vector.
    items = len(version.index)
    passing = None if sources.passing is None else sources.passing[:items]
    seen = seen.of_first(items)
    # The index searches without the GIL: another core makes the other lists meanwhile.
    with ThreadPoolExecutor(1) as aside:
        searching = aside.submit(
            search_without, version.index, encoded.vectors, max(k, DEPTH), seen, passing
        )
        others = [name for name in names if name != TWO_TOWER] if source == RANKED else []
        lists = sources.candidates(others, queries, k)
        found, scores, widened = searching.result()
    lists[TWO_TOWER] = ScoredLists(found, scores)
    return queries.with_given(lists), widened


def _retrieve_from(
    sources: CandidateSources, source: str, queries: Queries, k: int, exclude: Ragged | None
) -> Retrieved:
    """Lists of one source that needs no model, followed by the most popular items."""
    own = sources.retrieve([source], queries, k, exclude=exclude)[source].items
    rows = sources.filled(own, k, exclude=exclude)
    # Without scores that can be compared, an item has that of its place.
    scores = np.broadcast_to(1 / (1 + np.arange(k) / CONSTANT), rows.shape)
    is_own = np.arange(k) < (own >= 0).sum(axis=1)[:, None]
    shares = np.stack([is_own, ~is_own], axis=2) * scores[:, :, None]
    widened = np.zeros(len(rows), bool)
    return _end_lists(rows, scores, widened, (source, POPULAR), shares)


def _retrieve_in_order(
    order: FixedOrder,
    sources: CandidateSources,
    queries: Queries,
    k: int,
    widened: np.ndarray,
    exclude: Ragged | None,
    length: int,
) -> Retrieved:
    rows, ordered = order.answer(sources, queries, k, exclude=exclude, length=length)
    # Popular items that fill up a list have the score 0.
    scores = np.where(ordered.items >= 0, ordered.scores, 0)
    return _end_lists(rows, scores, widened, order.sources, ordered.shares)


def _end_lists(
    rows: np.ndarray,
    scores: np.ndarray,
    widened: np.ndarray,
    names: Sequence[str],
    shares: np.ndarray,
) -> Retrieved:
    """Writes `NONE` and NaN behind the ends of lists."""
    there = rows >= 0
    return Retrieved(
        np.where(there, rows, NONE).astype(np.int32),
        np.where(there, scores, np.nan).astype(np.float32),
        widened,
        tuple(names),
        shares.astype(np.float32),
    )
