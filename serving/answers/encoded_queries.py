"""Queries as candidate sources read them: the query tower's vectors, and what users took before."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serving.answers.known_past import read_queries
from serving.requests.request_model import Refused
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import POPULAR, RANKED, TWO_TOWER
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.source import Queries


class EncodedQueries(NamedTuple):
    """What lists are made from.

    Attributes:
      vectors: [B, D] float32, the query tower's; empty where the two-tower is not asked.
      queries: B, what the other sources read.
      fixed_order: the version's, for all lists of an answer: events may move it meanwhile.
      sources: those of the version, likewise.
      is_popular: [B] bool, queries that get what is popular lately in place of the two-tower's lists;
        None where there are none.
    """

    vectors: np.ndarray
    queries: Queries
    fixed_order: FixedOrder | None = None
    sources: CandidateSources | None = None
    is_popular: np.ndarray | None = None

    def take(self, queries: np.ndarray) -> "EncodedQueries":
        """The queries of these numbers, [K] int64 ascending."""
        popular = None if self.is_popular is None else self.is_popular[queries]
        return self._replace(
            vectors=self.vectors[queries], queries=self.queries.take(queries), is_popular=popular
        )


def encode_queries(
    version: Version, table: pa.Table, source: str, is_popular: np.ndarray | None = None
) -> EncodedQueries:
    """What a source reads.

    Args:
      version: what answers.
      table: [B] rows of `serving.requests.query_rows.complete`.
      source: of `Version.choose_source`.
      is_popular: as above.

    Raises:
      Refused: the query tower has no finite vector for a request.
    """
    if source == TWO_TOWER:
        nothing = np.zeros(0, np.int64)
        no_past = Ragged(nothing, nothing, len(table))
        encoded = EncodedQueries(_encode(version, table), Queries.of_past(no_past))
        if is_popular is None or not is_popular.any():
            return encoded
        return encoded._replace(sources=version.candidate_sources, is_popular=is_popular)
    # In this order: a fixed order never comes before the sources that it names.
    order = version.fixed_order
    sources = version.candidate_sources
    if source != RANKED and TWO_TOWER not in version.sources_of(source):
        queries = read_queries(version, table, personal=source != POPULAR)
        return EncodedQueries(np.zeros((len(table), 0), np.float32), queries, order, sources)
    # Towers run without the GIL: another core reads meanwhile.
    with ThreadPoolExecutor(1) as aside:
        encoding = aside.submit(_encode, version, table)
        queries = read_queries(version, table, personal=True)
        return EncodedQueries(encoding.result(), queries, order, sources)


def _encode(version: Version, table: pa.Table) -> np.ndarray:
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
