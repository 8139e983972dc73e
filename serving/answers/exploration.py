"""Items for the places of a list that are for exploration: items without an event in the count
window that the user never had.

Each day a thousand of them are drawn, of those that pass a filter. A user gets those of the
thousand that the two-tower places nearest; where the answer is made without the two-tower, some
that are drawn for the user.

B queries, E items, K places.
"""

from datetime import date
from typing import NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np

from serving.answers.encoded_queries import EncodedQueries
from serving.answers.filtered_search import Seen
from serving.version.filters import Groups
from serving.version.loaded_version import Version
from twinspire_core.fusion.exploration import exploring_places, seeds, uniform
from twinspire_core.metrics.ranking import contains
from twinspire_core.search.index import NONE
from twinspire_core.search.top_k import best_of

_OF_A_DAY = 1000
_SPARE = 100  # items besides one for each place: caps let not all of them through

# Of the day that was asked for last. Goes with the version: nothing keeps one that was swapped.
_orders: "WeakKeyDictionary[Version, tuple[date, np.ndarray]]" = WeakKeyDictionary()


class Explored(NamedTuple):
    """What is to be explored.

    Attributes:
      places: [B, K] bool, those for exploration.
      items: [B, E] int64, rows of the corpus, in the order in which they get these places; `NONE`
        behind the end.
      scores: [B, E] float32, the two-tower's cosines; without the two-tower 0.
    """

    places: np.ndarray
    items: np.ndarray
    scores: np.ndarray

    def take(self, queries: np.ndarray) -> Self:
        """Those of the queries of these numbers."""
        return type(self)(*(values[queries] for values in self))


class Draw(NamedTuple):
    """What is drawn by.

    Attributes:
      share: of the places but the first.
      day: of the requests.
      seeds: [B] uint64, by user and day.
    """

    share: float
    day: date
    seeds: np.ndarray


def explored_items(
    version: Version,
    queries: EncodedQueries,
    k: int,
    draw: Draw,
    left_out: Seen,
    groups: Groups,
) -> Explored | None:
    """Places and items.

    Args:
      version: what answers.
      queries: B.
      k: places of a list.
      draw: what is drawn by.
      left_out: what must not be listed, and what the users had before.
      groups: what may be listed.

    Returns: None where the version says nothing of events.
    """
    # Drawn once of a version, however its catalogue grows: what came after it has events.
    order = _order_of_day(version.published, draw.day)
    if order is None:
        return None
    places = exploring_places(draw.share, k, draw.seeds)
    width = min(len(order), _OF_A_DAY, _SPARE + int(places.sum(axis=1).max(initial=0)))
    items = np.full((len(places), width), NONE, np.int64)
    scores = np.zeros(items.shape, np.float32)
    has_place = np.asarray(places.any(axis=1))
    for group, selected in groups.queries():
        members = group[has_place[group]]
        some = order if selected is None else order[selected.passing[order]]
        some = some[:_OF_A_DAY]
        if not len(members) or not len(some):
            continue
        without = left_out.of(members)
        wanted = _wanted(version, queries.take(members), some, draw.seeds[members])
        rows = np.broadcast_to(some, wanted.shape)
        had = contains(without.by_query(len(members)), rows)
        columns = best_of(np.where(had, -np.inf, wanted), min(width, len(some)))
        part = slice(columns.shape[1])
        items[members, part] = np.where(columns >= 0, some[columns], NONE)
        if queries.has_vectors:
            scores[members, part] = np.take_along_axis(wanted, np.maximum(columns, 0), axis=1)
    return Explored(places, items, scores)


def _wanted(
    version: Version, queries: EncodedQueries, items: np.ndarray, seeds: np.ndarray
) -> np.ndarray:
    """How near each item is, or how early it is drawn, [B, N] float32."""
    if queries.has_vectors:
        cosines: np.ndarray = queries.vectors @ np.asarray(version.index.vectors[items]).T
        return cosines
    return uniform(seeds, items).astype(np.float32)


def _order_of_day(version: Version, day: date) -> np.ndarray | None:
    """The items without events in the order in which a day draws them; None where the version says
    nothing of events.
    """
    known = _orders.get(version)
    if known is not None and known[0] == day:
        return known[1]
    if version.without_events is None:
        return None
    quiet = np.flatnonzero(version.without_events)
    order: np.ndarray = quiet[np.argsort(uniform(seeds([str(day)]), quiet)[0])]
    _orders[version] = day, order
    return order
