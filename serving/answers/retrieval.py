"""Where the items of a list come from: the two-tower, a simpler source, or the mix of all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serving.answers.filtered_search import Seen, search_without
from serving.requests.query_rows import PAST as PAST_COLUMN
from serving.requests.query_rows import PAST_EVENTS
from serving.requests.request_model import SEEN, Refused
from serving.version.filters import Groups, Selected
from serving.version.loaded_version import Version
from twinspire_core.errors import UsageError
from twinspire_core.fusion.fuse import CONSTANT, DEPTH, fuse_sources
from twinspire_core.search.index import NONE
from twinspire_core.search.ragged import Ragged, list_lengths, list_rows
from twinspire_core.sources.candidate_sources import (
    CO_OCCURRENCE,
    MIX,
    MOST_POPULAR,
    PAST,
    POPULAR_LATELY,
    TWO_TOWER,
    CandidateSources,
    most_frequent_first,
)

SOURCES = (MIX, TWO_TOWER, PAST, POPULAR_LATELY, MOST_POPULAR, CO_OCCURRENCE)


class Found(NamedTuple):
    """Lists for B queries, of min(k, items) places.

    Attributes:
      rows: [B, K] int32, rows of the catalogue, best first, `NONE` behind the end.
      scores: [B, K] float32, NaN there: the two-tower's cosines, the mix's scores, else 1 / (1 +
        place / CONSTANT).
      widened: [B] bool, whether the two-tower's first search found too few.
      names: S sources.
      shares: [B, K, S] float32, what each of them gave to the score; None if all is the
        two-tower's.
    """

    rows: np.ndarray
    scores: np.ndarray
    widened: np.ndarray
    names: tuple[str, ...] = (TWO_TOWER,)
    shares: np.ndarray | None = None


class _Asked(NamedTuple):
    """What a list goes by.

    Attributes:
      vectors: [B, D] float32, the query tower's; empty where the two-tower is not asked.
      past: B lists of what users had before, in the order of the source `past`.
      events: how many events that were, [B] int64.
    """

    vectors: np.ndarray
    past: Ragged
    events: np.ndarray

    def of(self, queries: np.ndarray) -> "_Asked":
        return _Asked(self.vectors[queries], self.past.take(queries), self.events[queries])


def available(version: Version) -> list[str]:
    """The sources that a version carries."""
    there = [TWO_TOWER, *([MIX] if version.mix else [])]
    if version.nominators:
        there += [
            PAST,
            POPULAR_LATELY,
            MOST_POPULAR,
            *([CO_OCCURRENCE] if version.nominators.neighbours else []),
        ]
    return there


def chosen(version: Version, source: str | None) -> str:
    """The source that answers: the one asked for, else the mix where the version carries one, else
    the two-tower.

    Raises:
      UsageError: the version has no such source.
    """
    if source is None:
        return MIX if version.mix else TWO_TOWER
    there = available(version)
    if source not in there:
        raise UsageError(
            f"A list comes from one of the sources that a version carries; {version.id} has"
            f" {', '.join(there)}, not {source!r}. Which there are is up to mix.sources of the"
            " pipeline file and to the release that wrote it; a mix also needs mix.min_users users"
            " to be fitted on."
        )
    return source


def find(
    version: Version, table: pa.Table, k: int, source: str, seen: Seen, groups: Groups
) -> Found:
    """The best k items of each query.

    Args:
      version: what answers.
      table: [B] rows of `serving.requests.query_rows.complete`.
      k: how many.
      source: of `chosen`.
      seen: what must not be listed.
      groups: what may be.
    """
    asked = _asked(version, table, source)
    parts = [
        (queries, _find(version, asked.of(queries), k, source, seen.of(queries), selected))
        for queries, selected in groups.queries()
    ]
    return parts[0][1] if len(parts) == 1 else _together(parts, len(table))


def _asked(version: Version, table: pa.Table, source: str) -> _Asked:
    by_vectors = source == TWO_TOWER or (
        source == MIX and version.mix is not None and TWO_TOWER in version.mix.sources
    )
    vectors = _encoded(version, table) if by_vectors else np.zeros((len(table), 0), np.float32)
    if source == TWO_TOWER:
        nothing = np.zeros(0, np.int64)
        return _Asked(vectors, Ragged(nothing, nothing, len(table)), np.zeros(len(table), np.int64))
    return _Asked(vectors, *_past(version, table))


def _encoded(version: Version, table: pa.Table) -> np.ndarray:
    """The query tower's vectors, [B, D] float32.

    Raises:
      Refused: one is not finite.
    """
    vectors = version.encode(table)
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise Refused(
            int(bad[0]),
            "The query tower makes finite vectors of features; of these it does not: one is a"
            " number far beyond those that it was trained on",
            "out_of_range",
        )
    return vectors


def _together(parts: Sequence[tuple[np.ndarray, Found]], queries: int) -> Found:
    """Puts the lists of groups of queries in their places."""

    def placed(values: Sequence[np.ndarray]) -> np.ndarray:
        whole = np.empty((queries, *values[0].shape[1:]), values[0].dtype)
        for (of, _), part in zip(parts, values, strict=True):
            whole[of] = part
        return whole

    found = [part for _, part in parts]
    shares = [part.shares for part in found if part.shares is not None]
    return Found(
        rows=placed([part.rows for part in found]),
        scores=placed([part.scores for part in found]),
        widened=placed([part.widened for part in found]),
        names=found[0].names,
        shares=placed(shares) if shares else None,
    )


def _find(
    version: Version, asked: _Asked, k: int, source: str, seen: Seen, selected: Selected | None
) -> Found:
    passing = selected.passing if selected else None
    if source == TWO_TOWER:
        return Found(*search_without(version.index, asked.vectors, k, seen, passing))
    nominators, k = version.nominators, min(k, len(version.index))
    assert nominators is not None, "of `chosen`"
    nominators = nominators.among(passing) if passing is not None else nominators
    exclude = _ragged(seen.query, seen.row, asked.past.rows) if len(seen.query) else None
    if source == MIX:
        return _mixed(version, nominators, asked, k, seen, exclude)
    own = nominators.retrieve([source], asked.past, k, exclude=exclude)[source]
    rows = nominators.filled(own, k, exclude=exclude)
    scores = np.broadcast_to(1 / (1 + np.arange(k) / CONSTANT), rows.shape)
    said = np.arange(k) < (own >= 0).sum(axis=1)[:, None]
    shares = np.stack([said, ~said], axis=2) * scores[:, :, None]
    return _found(rows, scores, np.zeros(len(rows), bool), (source, MOST_POPULAR), shares)


def _mixed(
    version: Version,
    nominators: CandidateSources,
    asked: _Asked,
    k: int,
    seen: Seen,
    exclude: Ragged | None,
) -> Found:
    mix = version.mix
    assert mix is not None, "of `chosen`"
    two_tower = None
    widened = np.zeros(asked.past.rows, bool)
    if TWO_TOWER in mix.sources:
        two_tower, _, widened = search_without(
            version.index, asked.vectors, max(k, DEPTH), seen, nominators.passing
        )
    rows, fused = fuse_sources(
        mix, nominators, asked.past, asked.events, k, two_tower=two_tower, exclude=exclude
    )
    # Popular items that fill up a list have the score 0.
    scores = np.where(fused.items >= 0, fused.scores, 0)
    return _found(rows, scores, widened, mix.sources, fused.shares)


def _found(
    rows: np.ndarray,
    scores: np.ndarray,
    widened: np.ndarray,
    names: Sequence[str],
    shares: np.ndarray,
) -> Found:
    there = rows >= 0
    return Found(
        np.where(there, rows, NONE).astype(np.int32),
        np.where(there, scores, np.nan).astype(np.float32),
        widened,
        tuple(names),
        shares.astype(np.float32),
    )


def _past(version: Version, table: pa.Table) -> tuple[Ragged, np.ndarray]:
    """What users had before, the most frequent first, then the most recent; and how many events
    that were, [B] int64.

    A request's history wins over what the version knows.
    """
    asked = table[SEEN].combine_chunks()
    given = asked.is_valid().to_numpy(zero_copy_only=False)
    events = list_lengths(asked)
    row = version.rows(asked.flatten()).astype(np.int64)
    own = most_frequent_first(Ragged.of_lengths(row, events))
    if PAST_COLUMN not in table.column_names:
        return own, events
    stored = table[PAST_COLUMN].combine_chunks()
    lengths = list_lengths(stored)
    query = list_rows(lengths)
    row = version.rows(stored.flatten())
    theirs = ~given[query]
    if PAST_EVENTS in table.column_names:
        lengths = table[PAST_EVENTS].fill_null(0).to_numpy()
    both = _ragged(
        np.concatenate([own.row, query[theirs]]),
        np.concatenate([own.values, row[theirs]]),
        len(table),
    )
    return both, np.where(given, events, lengths)


def _ragged(query: np.ndarray, row: np.ndarray, queries: int) -> Ragged:
    """Lists of what belongs to each query, in the order given."""
    order = np.argsort(query, kind="stable")
    return Ragged(row[order].astype(np.int64), query[order].astype(np.int64), queries)
