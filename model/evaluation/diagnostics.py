"""What the report draws beside the measures: how popular listed items are, and a few lists to look at.

U lists, L places of a list, C items of the corpus, D dimensions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_lists import VersionLists
from model.evaluation.day_queries import HELD_OUT, not_held_out
from model.evaluation.evaluation_set import DayData, EvaluationSet
from model.evaluation.ranked_lists import RankedLists, rank_baselines
from model.item_fingerprint import fingerprint
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_registry import PURCHASE_HISTORY, TWO_TOWER
from twinspire_core.contracts.day_metrics import ExampleList, PopularityFigures
from twinspire_core.metrics.list_metrics import is_first, slice_of, top_k
from twinspire_core.metrics.measure_names import SLICES

GROUPS = 10
"""Groups of items that have equally many earlier events between them; items without an event are
one group more.
"""
ITEMS_SHOWN = 10
"""The most items of an example's list and of its history."""

_DIGITS = 4


def popularity_figures(
    pipeline: Pipeline, day: DayData, version: VersionLists, log_q: np.ndarray | None
) -> PopularityFigures:
    """How popular the items are that users held out of training are listed, for the report.

    Args:
      pipeline: says how long the lists are, and what divided the scores in training.
      day: queries of the users, the corpus, and what was trained on.
      version: lists of the day's version for them.
      log_q: [C] float32, natural log of each item's estimated share of the training rows; None
        without an estimate.
    """
    ks = pipeline.evaluation.ks
    k = sorted(ks)[len(ks) // 2]
    evaluation_set = day.evaluation_sets[HELD_OUT]
    lists = {TWO_TOWER: version.ranked[HELD_OUT].counted(evaluation_set.exclude_seen)}
    if log_q is not None:
        items = day.corpus.column("_item")
        trained_items = pc.unique(not_held_out(day.events).column("_item"))
        drawn = evaluation_set.events > 0
        drawn |= pc.is_in(items, trained_items).to_numpy(zero_copy_only=False)
        vectors = version.vectors(HELD_OUT)
        lists["uncorrected"] = rank_uncorrected(
            vectors.queries,
            vectors.items,
            log_q,
            drawn,
            temperature=pipeline.train.temperature,
            k=k,
        )
    for name, baseline in rank_baselines(evaluation_set, k).items():
        if name != PURCHASE_HISTORY:
            lists[name] = baseline.counted(evaluation_set.exclude_seen)
    return PopularityFigures(**popularity(evaluation_set, lists, k))


def popularity_group(events: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The group of each item, [C] int64: 0 for the most popular items, `GROUPS` for those without
    an event.

    Groups are cut where the sum of events, from the most popular item on, passes another tenth of
    all events. An item belongs to the group in which its middle event lies.

    Args:
      events: [C] int64, how many each item has.
      order: [C] int64, positions by falling number of events.
    """
    ordered = events[order]
    middle = np.cumsum(ordered) - ordered / 2
    group = np.full(len(events), GROUPS, np.int64)
    if ordered.sum():
        group[order] = np.where(ordered > 0, np.floor(GROUPS * middle / ordered.sum()), GROUPS)
    return group


def popularity(
    evaluation_set: EvaluationSet, lists: Mapping[str, np.ndarray], k: int
) -> dict[str, Any]:
    """How popular the items of lists are, beside the items that were taken.

    Args:
      evaluation_set: queries and what they should have found.
      lists: [U, L] positions by name, best first, -1 behind the end.
      k: how many places of each list count.

    Returns: `items`, how many items each group has; `clicks`, shares of the groups among the true
    items in the corpus; `lists`, shares of the groups among the first k listed, by name. All are in
    the order of the groups, the most popular first.
    """
    headline = evaluation_set.headline
    group = popularity_group(evaluation_set.events, evaluation_set.popular)
    truth = evaluation_set.truth
    taken = truth.where(headline[truth.row] & (truth.values >= 0))
    listed = {name: ranked[headline][:, :k] for name, ranked in lists.items()}
    return {
        "k": k,
        "items": np.bincount(group, minlength=GROUPS + 1).tolist(),
        "clicks": _shares(group[taken.values]),
        "lists": {name: _shares(group[items[is_first(items)]]) for name, items in listed.items()},
    }


def _shares(groups: np.ndarray) -> list[float]:
    counts = np.bincount(groups, minlength=GROUPS + 1)
    shares: list[float] = np.round(counts / max(1, counts.sum()), _DIGITS).tolist()
    return shares


def rank_uncorrected(
    queries: np.ndarray,
    items: np.ndarray,
    log_q: np.ndarray,
    drawn: np.ndarray,
    *,
    temperature: float,
    k: int,
) -> np.ndarray:
    """The lists that the correction avoids, [U, k] int64: best by s - log q, as a plain in-batch
    softmax learns to score.

    A softmax over items drawn with probability q has its optimum at
    s = log P(item | query) - log q; the correction takes log q out. Putting it back into the scores
    of a corrected model shows, without training another, how popular its lists would have been.
    Items that are never drawn are left out, since such a softmax learns nothing of them.

    Args:
      queries: [U, D] float32, vectors of the queries.
      items: [C, D] float32, vectors of the corpus.
      log_q: [C] float32, natural log of each item's share of the training rows.
      drawn: [C] bool, items that training met.
      temperature: what training divides inner products by.
      k: length of the lists; -1 stands where the items are used up.
    """
    met = np.flatnonzero(drawn)
    # One dimension more subtracts log q in the same product: <(q / t, 1), (c, -log q)>. With t = 0.1,
    # q = (0.6, 0.8) and an item c = (1, 0) of share 0.01 that is (6, 8, 1) and (1, 0, 4.6).
    ones = np.ones((len(queries), 1))
    query = np.concatenate([queries / temperature, ones], axis=1, dtype=np.float32)
    item = np.concatenate([items[met], -log_q[met, np.newaxis]], axis=1, dtype=np.float32)
    # The place -1, the end of a list, reads the -1 that is appended.
    ranked: np.ndarray = np.append(met, -1)[top_k(query, item, k)]
    return ranked


def pick_examples(
    pipeline: Pipeline, evaluation_set: EvaluationSet, ranked: RankedLists, corpus: pa.Table
) -> list[ExampleList]:
    """A user of each slice by earlier events, with their past, their list, and what they took. The
    past is the user's history, newest first; without that feature the past items, most frequent first.

    It is the user whose id has the lowest fingerprint: a choice that has nothing to do with the
    lists.
    """
    history = pipeline.history_name
    queries = evaluation_set.queries
    user_slice = slice_of(evaluation_set.past_events, SLICES)
    key = fingerprint(queries.column("_user"))
    counted = ranked.counted(evaluation_set.exclude_seen)
    examples = []
    for number in np.unique(user_slice):
        in_slice = np.flatnonzero(user_slice == number)
        row = int(in_slice[np.argmin(key[in_slice])])
        past = queries.column(history or "_past")[row].as_py() or []
        listed = counted[row, :ITEMS_SHOWN]
        examples.append(
            ExampleList(
                user=queries.column("_user")[row].as_py(),
                past_events=int(evaluation_set.past_events[row]),
                # A history ends with its newest event.
                history=(past[::-1] if history else past)[:ITEMS_SHOWN],
                items=corpus.column("_item").take(pa.array(listed[listed >= 0])).to_pylist(),
                taken=queries.column("_truth")[row].as_py(),
            )
        )
    return examples
