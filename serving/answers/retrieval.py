"""Lists of items from one source, or from several: by the ranker, or blended in the fixed order.

B queries, S sources, K places of a list, F features of a ranker.
"""

from collections.abc import Sequence

import numpy as np

from serving.answers.encoded_queries import EncodedQueries
from serving.answers.filtered_search import Retrieved, Seen, search_without
from serving.requests.request_model import ListRequest
from serving.version.filters import Groups, Selected
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import FIXED_ORDER, POPULAR, RANKED, TWO_TOWER
from twinspire_core.fusion.rank_fusion import CONSTANT, DEPTH
from twinspire_core.ranking.pairs import Vectors
from twinspire_core.ranking.ranker import rank_candidates
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries, ScoredLists


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
    """The best items of each of B queries.

    Args:
      source: the source of the lists, as `Version.choose_source` gives it.
      seen: items that must not be listed.
      groups: the queries by their filters.
      length: length of the lists if it is more than `options.k`. The first k items stay the same.
    """
    length = length or options.k
    parts: list[tuple[np.ndarray, Retrieved]] = []
    for members, selected in groups.queries():
        of_members, theirs = queries, seen
        # Nearly always, one group has all queries, so nothing is copied.
        if len(members) < len(queries.queries):
            of_members, theirs = queries.take(members), seen.of(members)
        lists = _retrieve_group(version, of_members, options, source, theirs, selected, length)
        parts.append((members, lists))
    return parts[0][1] if len(parts) == 1 else _join(parts, len(queries.queries))


def _join(parts: Sequence[tuple[np.ndarray, Retrieved]], queries: int) -> Retrieved:
    """The lists of all queries, from those of groups of queries."""

    def joined(values: Sequence[np.ndarray]) -> np.ndarray:
        whole = np.empty((queries, *values[0].shape[1:]), values[0].dtype)
        for (members, _), part in zip(parts, values, strict=True):
            whole[members] = part
        return whole

    lists = [part for _, part in parts]
    shares = [part.shares for part in lists if part.shares is not None]
    values = [part.values for part in lists if part.values is not None]
    return Retrieved(
        rows=joined([part.rows for part in lists]),
        scores=joined([part.scores for part in lists]),
        widened=joined([part.widened for part in lists]),
        names=lists[0].names,
        shares=joined(shares) if shares else None,
        values=joined(values) if values else None,
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
    exclude = seen.by_query(len(encoded.queries)) if len(seen.query) else None
    if source == TWO_TOWER:
        near = search_without(version.index, encoded.vectors, length, seen, passing)
        if sources is None or encoded.is_popular is None:
            return near
        popular = _retrieve_from(sources, POPULAR, encoded.queries, length, exclude)
        return _put_popular(near, popular, encoded.is_popular)
    assert sources is not None, "of `Version.choose_source`"
    if source not in (RANKED, FIXED_ORDER):
        return _retrieve_from(sources, source, encoded.queries, length, exclude)
    # The ranker's features include an item's place in each source's list with seen items. So seen items
    # are left out after ranking.
    left_out = seen.of_first(0) if source == RANKED else seen
    queries, widened = _with_two_tower(version, sources, encoded, k, source, left_out)
    if source == RANKED:
        encoded = encoded._replace(queries=queries)
        return _retrieve_ranked(
            version, sources, encoded, k, exclude, widened, length=length, explain=options.explain
        )
    order = encoded.fixed_order
    assert order is not None, "of `Version.choose_source`"
    rows, ordered = order.answer(sources, queries, k, exclude=exclude, length=length)
    # Popular items that fill up a list score 0.
    scores = np.where(ordered.items >= 0, ordered.scores, 0)
    return Retrieved.ended(rows, scores, widened, order.sources, ordered.shares)


def _put_popular(near: Retrieved, popular: Retrieved, is_popular: np.ndarray) -> Retrieved:
    """The two-tower's lists, with popular lists for the queries in `is_popular`, [B] bool."""
    chosen = is_popular[:, None]
    assert popular.shares is not None
    # One column for the two-tower, then those of the popular lists; each row has either.
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
    """The queries with the two-tower's lists, if the source needs them. Also whether each query needed
    a wider search, [B] bool.
    """
    queries = encoded.queries
    names = version.sources_of(source)
    if TWO_TOWER not in names:
        return queries, np.zeros(len(queries), bool)
    # Items that are newer than the version have no vector.
    items = len(version.index)
    passing = None if sources.passing is None else sources.passing[:items]
    seen = seen.of_first(items)
    nearest = search_without(version.index, encoded.vectors, max(k, DEPTH), seen, passing)
    given = {TWO_TOWER: ScoredLists(nearest.rows, nearest.scores)}
    return queries.with_given(given), nearest.widened


def _retrieve_from(
    sources: CandidateSources, source: str, queries: Queries, k: int, exclude: Ragged | None
) -> Retrieved:
    """Lists of one source that needs no model, followed by the most popular items."""
    items = sources.retrieve([source], queries, k, exclude=exclude)[source].items
    rows = sources.filled(items, k, exclude=exclude)
    scores = np.broadcast_to(1 / (1 + np.arange(k) / CONSTANT), rows.shape)
    # Items after the end of the source's own list are from the popular source.
    is_own = np.arange(k) < (items >= 0).sum(axis=1)[:, None]
    shares = np.stack([is_own, ~is_own], axis=2) * scores[:, :, None]
    return Retrieved.ended(rows, scores, np.zeros(len(rows), bool), (source, POPULAR), shares)


def _retrieve_ranked(
    version: Version,
    sources: CandidateSources,
    encoded: EncodedQueries,
    k: int,
    exclude: Ragged | None,
    widened: np.ndarray,
    *,
    length: int,
    explain: bool,
) -> Retrieved:
    """The ranker's best k candidates of each query, filled up with popular items.

    Args:
      encoded: with the two-tower's lists if the ranker uses them, without exclusions.
      length: length of the lists, at least k.
    """
    ranker = version.ranker
    assert ranker is not None, "of `Version.choose_source`"
    ranked = rank_candidates(
        ranker,
        version.ranking_features,
        sources,
        encoded.queries,
        k,
        vectors=Vectors(queries=encoded.vectors, items=version.index.vectors),
        # The batches of a server keep all cores busy already
        threads=1,
    )
    chosen = ranked.best(length, exclude)
    rows = sources.filled(ranked.items(chosen), length, exclude=exclude)
    listed = chosen >= 0
    # After the end of a list, `chosen` is -1 and reads the values appended here.
    scores = np.append(ranked.scores, np.float32(np.inf))[chosen]
    # Items that fill up a list get its lowest score.
    lowest = scores.min(axis=1, initial=np.inf, keepdims=True)
    lowest[~listed.any(axis=1)] = 0
    gains = np.append(ranked.pairs.gains, np.zeros((1, len(ranker.sources)), np.float32), axis=0)
    values = None
    if explain:
        none = np.full((1, len(ranker.names)), np.nan, np.float32)
        values = np.append(ranked.values, none, axis=0)[chosen]
    scores = np.where(listed, scores, lowest)
    return Retrieved.ended(rows, scores, widened, ranker.sources, gains[chosen], values)
