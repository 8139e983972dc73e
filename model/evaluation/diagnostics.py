"""What the report draws beside the measures: how popular listed items are, how near the estimated
frequencies come to the true ones, and a few lists to look at. U lists, C items of the corpus.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, rank_baselines
from model.item_fingerprint import fingerprint
from model.losses.sampling_probability import StreamingFrequency
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.day_metrics import FrequencyFigures, PopularityFigures
from twinspire_core.contracts.example_lists import ExampleList
from twinspire_core.metrics.ranking import is_first, top_k
from twinspire_core.metrics.slices import slice_of
from twinspire_core.sources.baselines import PAST

GROUPS = 10
"""Groups of items that have equally many earlier events between them; items without one are a group
more.
"""
KNOWN = 10
"""Rows of a day from which on the share of an item is not mostly chance."""
SHOWN = 10
"""The most items of an example's list and of its history."""

_POINTS = 300
_DIGITS = 4


def draw(
    pipeline: Pipeline,
    split: EvaluationSet,
    vectors: tuple[np.ndarray, np.ndarray],
    ranked: np.ndarray,
    corpus: pa.Table,
    examples: pa.Table,
    estimate: StreamingFrequency,
) -> tuple[PopularityFigures, FrequencyFigures | None]:
    """What metrics.json holds for the report's figures: of popularity and of frequencies.

    Args:
      pipeline: its settings.
      split: queries of held-out users.
      vectors: [U, D] of them and [C, D] of the corpus, by the day's version.
      ranked: [U, L] its lists.
      corpus: `_item`, in the order of the positions.
      examples: the day's rows of `examples/`.
      estimate: of the frequencies, as training left it.
    """
    train, ks = pipeline.train, sorted(pipeline.evaluation.ks)
    k = ks[len(ks) // 2]
    lists, shares = {"two_tower": ranked}, None
    if train.correction != "none":
        log_q = estimate.log_q(fingerprint(corpus.column("_item"))).numpy()
        trained = examples.filter(pc.invert(examples.column("_holdout")))
        drawn = split.events > 0
        drawn |= pc.is_in(corpus.column("_item"), pc.unique(trained.column("_item"))).to_numpy(
            zero_copy_only=False
        )
        lists["uncorrected"] = rank_uncorrected(
            *vectors, log_q, drawn, temperature=train.temperature, k=k
        )
        shares = frequency(trained.column("_item"), lambda items: estimate.log_q(items).numpy())
    lists |= {name: by.kept for name, by in rank_baselines(split, k).items() if name != PAST}
    popular = PopularityFigures(**popularity(split, lists, k))
    return popular, FrequencyFigures(**shares) if shares else None


def popularity_group(events: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The group of each item, [C] int64: 0 for the most popular items, `GROUPS` for those without
    an event.

    Groups are cut where the sum of events, from the most popular item on, passes another tenth of
    all of them; an item belongs where its middle event does.

    Args:
      events: [C] int64.
      order: [C] int64, positions by falling number of events.
    """
    ordered = events[order]
    middle = np.cumsum(ordered) - ordered / 2
    group = np.full(len(events), GROUPS, np.int64)
    if ordered.sum():
        group[order] = np.where(ordered > 0, np.floor(GROUPS * middle / ordered.sum()), GROUPS)
    return group


def popularity(split: EvaluationSet, lists: Mapping[str, np.ndarray], k: int) -> dict[str, Any]:
    """How popular the items of lists are, beside those that were taken.

    Args:
      split: queries and what they should have found.
      lists: [U, L] positions by name, best first, -1 behind the end.
      k: items of each list that count.

    Returns: `items`, how many each group has; `clicks`, shares of the groups among the true items
      in the corpus; `lists`, the same among the first k listed, by name. All in the order of the
      groups, the most popular first.
    """
    group = popularity_group(split.events, split.popular)
    true = split.truth.where(split.headline[split.truth.row] & (split.truth.values >= 0))
    listed = {name: ranked[split.headline][:, :k] for name, ranked in lists.items()}
    return {
        "k": k,
        "items": np.bincount(group, minlength=GROUPS + 1).tolist(),
        "clicks": _shares(group[true.values]),
        "lists": {
            name: _shares(group[ranked[is_first(ranked)]]) for name, ranked in listed.items()
        },
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
    """The lists that the correction spares us: best by s - log q, as a plain in-batch softmax
    learns to score.

    A softmax over items drawn with frequency q has its optimum at s = log P(item | query) - log q;
    the correction takes log q out. Putting it back into the scores of a corrected model shows,
    without training another, what popularity its lists would have had. Items that are never drawn
    are left out: such a softmax learns nothing of them.

    Args:
      queries: [U, D] float32.
      items: [C, D] float32.
      log_q: [C] float32, natural log of each item's share of the training rows.
      drawn: [C] bool, items that training met.
      temperature: divides the inner products.
      k: length of the lists.

    Returns: [U, k] int64, best first, -1 where these items are used up.
    """
    known = np.flatnonzero(drawn)
    scaled = np.concatenate(
        [queries / temperature, np.ones((len(queries), 1))], axis=1, dtype=np.float32
    )
    found = top_k(
        scaled, np.concatenate([items[known], -log_q[known, None]], axis=1, dtype=np.float32), k
    )
    rows: np.ndarray = np.append(known, -1)[found]
    return rows


def frequency(
    items: pa.Array | pa.ChunkedArray, log_q: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Any] | None:
    """The streaming estimate beside the true shares of a day.

    Args:
      items: [N] ids, the item of each row that the day was trained on.
      log_q: the estimate: [M] int64 fingerprints to [M] float32.

    Returns: `rows`, `items`; `known`, how often an item must be met for its true share to be known;
      `factor`, e to the mean over such items' rows of |log(estimated / true share)|: by how much
      the estimate is off, null if there are none; and `pairs`, [true share, estimated], of some
      items, the most frequent first and ever fewer of the rest. None without rows.
    """
    if not len(items):
        return None
    counted = pc.value_counts(
        items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
    )
    counts = counted.field("counts").to_numpy()
    order = np.lexsort((fingerprint(counted.field("values")), -counts))
    true = counts[order] / counts.sum()
    estimated = np.exp(log_q(fingerprint(counted.field("values"))[order]).astype(np.float64))
    known = counts[order] >= KNOWN
    off = np.abs(np.log(estimated / true))[known]
    shown = np.unique(np.geomspace(1, len(order), min(_POINTS, len(order))).round().astype(int)) - 1
    return {
        "rows": len(items),
        "items": len(order),
        "known": KNOWN,
        "factor": float(np.exp(np.average(off, weights=true[known]))) if known.any() else None,
        "pairs": [[_short(true[n]), _short(estimated[n])] for n in shown],
    }


def _short(x: float) -> float:
    return float(f"{x:.3g}")


def pick_examples(
    pipeline: Pipeline, asked: EvaluationSet, ranked: RankedLists, corpus: pa.Table
) -> list[ExampleList]:
    """A user of each slice by earlier events, with their past, what they were offered and what they
    took.

    They are the ones whose id has the lowest fingerprint: chosen by nothing that the lists have to
    do with.

    Args:
      pipeline: its slices and its history.
      asked: the queries.
      ranked: their lists.
      corpus: `_item`, in the order of the positions.

    Returns: the lists, each with the user's history, the newest item first; without that feature
      with the user's past items, the most frequent first.
    """
    history = pipeline.history_name
    split = asked
    slices = slice_of(split.past_events, pipeline.evaluation.slices)
    key = fingerprint(asked.queries.column("_user"))
    found = list[ExampleList]()
    for number in np.unique(slices):
        among = np.flatnonzero(slices == number)
        row = int(among[np.argmin(key[among])])
        told = {
            name: asked.queries.column(name)[row].as_py()
            for name in ("_user", "_truth", history or "_past")
        }
        past = told[history or "_past"] or []
        chosen = ranked.kept[row, :SHOWN]
        found.append(
            ExampleList(
                user=told["_user"],
                past_events=int(split.past_events[row]),
                history=(past[::-1] if history else past)[:SHOWN],
                items=corpus.column("_item").take(pa.array(chosen[chosen >= 0])).to_pylist(),
                taken=told["_truth"],
            )
        )
    return found
