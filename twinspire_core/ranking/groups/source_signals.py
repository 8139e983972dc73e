"""What the candidate sources say of a candidate: its places and scores in their lists, the similarity to what
the user took last, and the cosine of the towers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinspire_core.config.source_registry import ENTRIES, TWO_TOWER
from twinspire_core.display.table import counted
from twinspire_core.fusion.rank_fusion import CONSTANT
from twinspire_core.native_code import compiled
from twinspire_core.ranking.pairs import NEWEST, Feature, FeatureGroup, Pairs
from twinspire_core.search.ragged import SparseTable, list_offsets
from twinspire_core.sources.candidate_sources import depth_of
from twinspire_core.sources.co_occurrence import near_items_of
from twinspire_core.sources.source import SourceTables

# Numbers of vectors that are gathered at a time, so that they stay in the processor's cache.
_NUMBERS = 1 << 16

_TOGETHER = {
    "sources": Feature(lambda x: f"listed by {counted(x, 'source')}", "not listed"),
    "gain": Feature(
        lambda x: "listed by several sources" if x > 1 else "listed by one source", "not listed"
    ),
}


def _similarity(words: str, history: str = "recent items") -> Feature:
    seldom = f"seldom bought together with the user's {history}"
    return Feature(lambda x: words.format(x) if x else seldom, "co-occurrence was not counted")


_SIMILARITIES = {
    "similar_most": _similarity(
        "bought together with one of the user's recent items (similarity {:.2f})"
    ),
    "similar_sum": _similarity(
        "bought together with the user's recent items (sum of similarities {:.2f})"
    ),
    "similar_newest": _similarity(
        "bought together with the user's last item (similarity {:.2f})", "last item"
    ),
    "similar_items": _similarity(
        f"often bought together with {{:.0f}} of the user's last {NEWEST} items"
    ),
}


def _cosine_text(value: float) -> str:
    how = "close to" if value > 0.5 else "not far from" if value > 0.2 else "far from"
    return f"{how} the user's taste according to the two-tower (cosine {value:.2f})"


class SourcePlaces(FeatureGroup):
    """Where each source lists a candidate, with what score, and how many sources agree.

    Places are counted from 0. Items after the first `Source.depth` of a list count as not listed, also
    where longer lists are asked for: rankers are fitted on lists of that length.
    """

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """A place and a score of each source, then two features of all sources together."""
        places = {f"place:{name}": _place_in(name) for name in sources}
        scores = {f"score:{name}": _score_in(name) for name in sources}
        return {**places, **scores, **_TOGETHER}

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """From the lists."""
        gains = np.where(pairs.gains > pairs.least_gains, pairs.gains, 0).T.copy()
        is_listed = gains > 0
        # The gain is 1 / (1 + place / CONSTANT).
        places = (1 / np.where(is_listed, gains, 1).astype(np.float64) - 1) * CONSTANT + 0.5
        places = places.astype(np.int64)
        for number, (name, lists) in enumerate(pairs.lists.items()):
            scores = lists.scores[pairs.query, places[number]]
            values[number] = np.where(is_listed[number], places[number], depth_of(name))
            values[len(gains) + number] = np.where(is_listed[number], scores, np.nan)
        values[-2] = is_listed.sum(axis=0)
        values[-1] = gains.sum(axis=0)


def _place_in(source: str) -> Feature:
    title = _title(source)

    def words(value: float) -> str:
        is_listed = value < depth_of(source)
        return f"{title} (place {value + 1:.0f})" if is_listed else f"{title}: not listed"

    return Feature(words, f"{title}: not listed")


def _score_in(source: str) -> Feature:
    title = _title(source)
    return Feature(lambda value: f"{title} (score {value:.3g})", f"{title}: not listed")


def _title(source: str) -> str:
    return ENTRIES[source].title if source in ENTRIES else source


@dataclass(frozen=True)
class Similarity(FeatureGroup):
    """How often a candidate is taken by users who took what this user took last: similarities of the source
    `co_occurrence` to the newest items of the history. They are 0 where the candidate is not among the
    near items that are kept of an item.
    """

    near_items: SparseTable

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """None where co-occurrence was not counted."""
        near_items = tables.once(near_items_of)
        return None if near_items is None else cls(near_items)

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """The largest similarity, the sum weighted by how often and how lately each item was taken, that to
        the newest item, and the number of items that the candidate is near to.
        """
        return _SIMILARITIES

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Looks for each near item of each item of the histories among the candidates."""
        newest = pairs.newest
        values[:] = 0
        _add_similarities(
            *(pairs.begin, pairs.item, np.empty(pairs.corpus_size, np.int32)),
            *(list_offsets(newest.items.lengths), newest.items.values, newest.weights),
            *(*self.near_items[:3], np.zeros(len(pairs)), values),
        )


@compiled
def _add_similarities(
    begin: Any,
    items: Any,
    place: Any,
    newest_begin: Any,
    newest: Any,
    weights: Any,
    offsets: Any,
    near_items: Any,
    similarities: Any,
    sums: Any,
    values: Any,
) -> None:
    """Adds up in `values`, and doubles in `sums`. `place` is as long as the corpus, and may hold
    anything.
    """
    for query in range(len(begin) - 1):
        first, end = begin[query], begin[query + 1]
        for pair in range(first, end):
            place[items[pair]] = pair
        for entry in range(newest_begin[query], newest_begin[query + 1]):
            for column in range(offsets[newest[entry]], offsets[newest[entry] + 1]):
                near = near_items[column]
                if near < 0:
                    continue
                pair = place[near]
                # `place` is not cleared between queries: what it says of another query's pair is no answer.
                if pair < first or pair >= end or items[pair] != near:
                    continue
                similarity = similarities[column]
                values[0, pair] = max(values[0, pair], similarity)
                sums[pair] += similarity * weights[entry]
                if entry == newest_begin[query]:
                    values[2, pair] = similarity
                values[3, pair] += 1
        for pair in range(first, end):
            values[1, pair] = sums[pair]


class TowerCosines(FeatureGroup):
    """How near a candidate's vector lies to that of the query, also for candidates that the two-tower does
    not list.

    Cosines with the items of the history were tried and left out: docs/decisions/0061-ranker.md.
    """

    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """The cosine, where the two-tower is a source: otherwise no tower is used."""
        cosine = Feature(_cosine_text, "the two-tower has no score for it")
        return {"cosine": cosine} if TWO_TOWER in sources else {}

    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Missing without vectors."""
        vectors = pairs.vectors
        if vectors is None:
            values[:] = np.nan
            return
        block = max(1, _NUMBERS // vectors.items.shape[1])
        for query, vector in enumerate(vectors.queries):
            for start in range(pairs.begin[query], pairs.begin[query + 1], block):
                some = slice(start, min(start + block, pairs.begin[query + 1]))
                items = vectors.items.take(pairs.item[some], axis=0)
                np.einsum("md,d->m", items, vector, out=values[0, some])
