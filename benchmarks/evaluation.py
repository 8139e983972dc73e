"""Seconds and peak memory of measuring a version: exact search of the whole corpus, every measure,
every baseline.

    python -m benchmarks.evaluation --json evaluation.json            10,000 users, 50,000 items, three times
    python -m benchmarks.evaluation --quick --json evaluation.json    2,000 users, 10,000 items, once

What is timed is what the train stage does for one evaluation set, with vectors of 64 dimensions:
the lists of the two towers with seen items kept and excluded; recall, nDCG, hit rate, MRR,
coverage, Gini, overlap and share of popular items at three lengths, by slices of users and of
items, with intervals of 200 resamples; the lists that need no model, measured alike; and the paired
comparison with a second version, whose own lists are not timed. `numpy/argpartition` is the plain
way to search, in blocks of the same size, with seen items kept only; its lists must be the same.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.quality.command import machine, write_whole
from model.evaluation.evaluate import compare, evaluate_baselines, evaluate_ranked
from model.evaluation.evaluation_set import EvaluationSet, prepare
from model.evaluation.ranked_lists import RankedLists, rank
from twinspire_core.search.ragged import Ragged

KS = (10, 50, 100)
BOUNDS = (1, 5, 20)
RESAMPLES = 200
DIMENSION = 64
WHOLE = {"users": 10_000, "items": 50_000, "times": 3}
QUICK = {"users": 2_000, "items": 10_000, "times": 1}
BLOCK_BYTES = 64 << 20


class World(NamedTuple):
    """Users with a past and what they took, and two versions of vectors for them.

    Attributes:
      evaluation_set: queries and answers.
      queries: [U, D] float32, vectors of the version.
      older: [U, D] float32, vectors of the version before.
      items: [C, D] float32.
    """

    evaluation_set: EvaluationSet
    queries: np.ndarray
    older: np.ndarray
    items: np.ndarray


def world(users: int, items: int, seed: int = 0) -> World:
    """Makes a day: items by Zipf's law, tastes that the vectors know something of, a tenth of the
    users new.
    """
    rng = np.random.default_rng(seed)
    vectors = _unit(rng.standard_normal((items, DIMENSION), np.float32))
    weight = 1 / np.arange(1, items + 1)
    past_lengths = np.where(rng.random(users) < 0.1, 0, rng.geometric(1 / 20, users))
    taken_lengths = rng.geometric(1 / 4, users)
    past = _draw(rng, weight, np.minimum(past_lengths, 200))
    taken = _draw(rng, weight, taken_lengths)
    tastes = np.zeros((users, DIMENSION), np.float32)
    np.add.at(tastes, taken.row, vectors[taken.values])
    queries = _noisy(rng, tastes, 2)
    older = _noisy(rng, tastes, 3)
    names = pa.array([f"i{n:06d}" for n in range(items)])
    columns = {
        "_user": [f"u{n}" for n in range(users)],
        "_truth": _lists(taken, names),
        "_past": _lists(past, names),
    }
    events = np.bincount(past.values, minlength=items)
    corpus = pa.table({"_item": names, "_popular": events, "_lately": rng.binomial(events, 0.2)})
    evaluation = pa.table({**columns, "_past_events": past.lengths})
    evaluation_set = prepare(evaluation, corpus, bounds=BOUNDS, resamples=RESAMPLES)
    return World(evaluation_set, queries, older, vectors)


def _noisy(rng: np.random.Generator, tastes: np.ndarray, noise: float) -> np.ndarray:
    return _unit(_unit(tastes) + noise * _unit(rng.standard_normal(tastes.shape, np.float32)))


def _draw(rng: np.random.Generator, weight: np.ndarray, lengths: np.ndarray) -> Ragged:
    drawn = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(lengths.sum()))
    return Ragged(
        np.minimum(drawn, len(weight) - 1),
        np.repeat(np.arange(len(lengths)), lengths),
        len(lengths),
    )


def _lists(lists: Ragged, names: pa.Array) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(lists.lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), names.take(pa.array(lists.values)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plain(queries: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """The k best items of each query by `numpy.argpartition`, [U, k]."""
    ranked = np.empty((len(queries), k), np.int64)
    block = max(1, BLOCK_BYTES // (4 * len(items)))
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ items.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        ranked[start : start + block] = np.take_along_axis(best, order, axis=1)
    return ranked


def measure(made: World) -> dict[tuple[str, str], float]:
    """Seconds by case and contender, once."""
    seconds: dict[tuple[str, str], float] = {}

    def timed(case: str, contender: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        seconds[case, contender] = time.perf_counter() - began
        print(f"{case:38} {contender:20} {seconds[case, contender]:7.2f} s", flush=True)
        return result

    k = max(KS)
    other = timed("lists", "numpy/argpartition", lambda: plain(made.queries, made.items, k))
    ranked: RankedLists = timed(
        "lists, seen kept and excluded",
        "twinspire",
        lambda: rank(made.evaluation_set, made.queries, made.items, k),
    )
    # Where two scores are equal in float32, either order is right.
    same = float((other == ranked.kept).mean())
    if same < 0.999:
        sys.exit(f"Both ways must find the same lists; {1 - same:.2%} of the places differ.")
    timed("measures", "twinspire", lambda: evaluate_ranked(made.evaluation_set, ranked, KS))
    timed("baselines", "twinspire", lambda: evaluate_baselines(made.evaluation_set, KS))
    older = rank(made.evaluation_set, made.older, made.items, k)
    timed(
        "comparison", "twinspire", lambda: compare(made.evaluation_set, ranked.kept, older.kept, KS)
    )
    ours = [took for (_, contender), took in seconds.items() if contender == "twinspire"]
    seconds["all", "twinspire"] = sum(ours)
    print(f"{'all':38} {'twinspire':20} {seconds['all', 'twinspire']:7.2f} s", flush=True)
    return seconds


def _row(case: str, contender: str, metric: str, values: list[float], unit: str) -> dict[str, Any]:
    low, value, high = (round(float(x), 2) for x in np.quantile(values, [0, 0.5, 1]))
    figures = {"metric": metric, "value": value, "low": low, "high": high, "unit": unit}
    return {"case": case, "contender": contender, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer users and items")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    size = QUICK if options.quick else WHOLE
    made = world(size["users"], size["items"])
    runs = [measure(made) for _ in range(size["times"])]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory':38} {'':20} {peak:7.0f} MB")
    where = f"{size['users']:,} users, {size['items']:,} items: "
    rows = [
        _row(where + c, who, "seconds", [run[c, who] for run in runs], "s") for c, who in runs[0]
    ]
    rows.append(_row(where + "all", "twinspire", "peak_mb", [peak], "MB"))
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
