"""Measures a day: who asked for what (SEMANTICS of `evaluation/`), and how near each list came.

Measures are a flat dictionary such as {"seen": "kept", "users": 9000, "recall@50": .1, …}, in which the user's past
items may be listed again; under "excluded" lie the same measures of lists without them. The gate looks at the former.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model import baselines
from model.fingerprint import fingerprint
from model.metrics import by_user, coverage, means, top_k
from model.ragged import Ragged, positions

HOLDOUT_DAYS = 7
"""Days of held-out users that are put together at most."""

Measures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Queries and what they should have found, in positions of one corpus.

    Attributes:
      truth: true items of each query, -1 outside the corpus.
      past: the user's past items, most frequent first, -1 outside the corpus.
      popular: the corpus by events in the count window, [C].
      lately: the corpus by events of the last days, [C].
      users: distinct users among the queries.
      days: distinct days among the queries.
    """

    truth: Ragged
    past: Ragged
    popular: np.ndarray
    lately: np.ndarray
    users: int
    days: int

    @property
    def items(self) -> int:
        """Size of the corpus."""
        return len(self.popular)


def prepare(evaluation: pa.Table, corpus: pa.Table) -> Split:
    """Reads the queries of a day against its catalogue.

    Args:
      evaluation: rows of `evaluation/` in the order of the query vectors to come: `_user`, `_truth`, `_past`, and
        `_day` where there are several.
      corpus: rows of `corpus/start/`, in the order of the item vectors to come.
    """
    items = corpus.column("_item").combine_chunks()
    return Split(
        truth=positions(evaluation.column("_truth"), items),
        past=positions(evaluation.column("_past"), items),
        popular=baselines.popular_order(corpus, "_popular"),
        lately=baselines.popular_order(corpus, "_lately"),
        users=pc.count_distinct(evaluation.column("_user")).as_py(),
        days=pc.count_distinct(evaluation.column("_day")).as_py() if "_day" in evaluation.column_names else 1,
    )


def progressive_rows(evaluation: pa.Table, day: date, max_users: int) -> pa.Table:
    """The day's own queries; beyond `max_users`, those users whose hash comes first, in the table's order."""
    return _at_most(evaluation.filter(pc.equal(evaluation.column("_day"), day)), max_users)


def holdout_rows(evaluation: pa.Table, day: date, *, min_users: int, max_users: int) -> pa.Table:
    """Queries of users held out of training: the day's, and while they are too few, those of the days before.

    Args:
      evaluation: rows of `evaluation/`.
      day: the day trained on.
      min_users: distinct users that are enough to judge.
      max_users: the most queries.
    """
    held = evaluation.filter(evaluation.column("_holdout"))
    for back in range(HOLDOUT_DAYS):
        chosen = held.filter(_between(held.column("_day"), day - timedelta(days=back), day))
        if pc.count_distinct(chosen.column("_user")).as_py() >= min_users:
            break
    return _at_most(chosen, max_users)


def evaluate_split(split: Split, queries: np.ndarray, items: np.ndarray, ks: Sequence[int]) -> Measures:
    """Measures two towers by exact search of the whole corpus.

    Args:
      split: from `prepare`.
      queries: [U, D] float32, a vector per query.
      items: [C, D] float32, a vector per item of the corpus.
      ks: list lengths.
    """
    k = max(ks)
    kept = evaluate_lists(split, top_k(queries, items, k), ks)
    excluded = evaluate_lists(split, top_k(queries, items, k, exclude=split.past), ks)
    return _both(kept, excluded)


def evaluate_baselines(split: Split, ks: Sequence[int]) -> dict[str, Measures]:
    """Measures the lists that need no model, by name. `past` without seen items would be `most_popular`: left out."""
    k, users = max(ks), split.truth.rows
    measured = {}
    for name, order in ((baselines.MOST_POPULAR, split.popular), (baselines.POPULAR_LATELY, split.lately)):
        kept = evaluate_lists(split, baselines.same_for_all(order, users, k), ks)
        fresh = baselines.same_for_all(order, users, k, exclude=split.past)
        measured[name] = _both(kept, evaluate_lists(split, fresh, ks))
    own = baselines.past_then(split.past, split.popular, k)
    measured[baselines.PAST] = {"seen": "kept", **evaluate_lists(split, own, ks)}
    return measured


def evaluate_lists(split: Split, ranked: np.ndarray, ks: Sequence[int]) -> Measures:
    """Measures ready-made lists.

    Args:
      split: from `prepare`.
      ranked: [U, L] positions, best first, -1 behind the end.
      ks: list lengths.
    """
    return {
        "users": split.users,
        "queries": split.truth.rows,
        "days": split.days,
        "items": split.items,
        **means(by_user(ranked, split.truth, ks)),
        **coverage(ranked, split.items, ks),
    }


def _both(kept: Measures, excluded: Measures) -> Measures:
    return {"seen": "kept", **kept, "excluded": {"seen": "excluded", **excluded}}


def _between(days: pa.ChunkedArray, first: date, last: date) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last))


def _at_most(rows: pa.Table, limit: int) -> pa.Table:
    if rows.num_rows <= limit:
        return rows
    return rows.take(np.sort(np.argsort(fingerprint(rows.column("_user")), kind="stable")[:limit]))


def headline(measures: Mapping[str, Any], ks: Sequence[int]) -> dict[str, float]:
    """The measures that a table shows, in its order."""
    names = [f"recall@{k}" for k in ks] + [f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr", f"coverage@{max(ks)}"]
    return {name: measures[name] for name in names if name in measures}
