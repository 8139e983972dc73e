"""What prior weights of the mix are worth, beside weights that were fitted.

    python -m benchmarks.small_shop --days 8 --set mix.min_users=100000
    python -m benchmarks.prior_weights work/small_shop/groceries-4

The first command keeps the lists of all days, as no number of users is enough to fit on. The second
reads those of the newest day. Each figure is the mean over users of recall@50, in their order: the
sources alone, filled up by the others; all sources alike; the prior weights; and weights fitted on
the other days, which is what they stand for.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.fusion_fitting import stored_lists
from model.fusion_fitting.fusion_weights import FILL_WEIGHT, fit_weights
from model.fusion_fitting.prior_weights import WEIGHTS, kind_of_log, prior_weights
from model.fusion_fitting.stored_lists import DayLists
from twinspire_core.fusion.candidate_pool import pool_candidates
from twinspire_core.fusion.fuse import fuse
from twinspire_core.metrics.ranking import by_user
from twinspire_core.search.ragged import Ragged

KS = (50, 10)
SOURCES = ("two_tower", "past", "popular_lately", "most_popular", "co_occurrence")


def recalls(days: Sequence[DayLists], weights: np.ndarray) -> np.ndarray:
    """Recall of each user of some days."""
    found = []
    for day in days:
        pool = pool_candidates([day.lists[name].items for name in SOURCES])
        lists = fuse(pool, np.tile(weights, (day.users, 1)), KS[0]).items
        found.append(by_user(lists, day.taken, KS)[f"recall@{KS[0]}"])
    return np.concatenate(found)


def fitted(days: Sequence[DayLists]) -> np.ndarray:
    """Weights fitted on all users of some days."""
    pool = pool_candidates(
        [np.concatenate([day.lists[name].items for day in days]) for name in SOURCES]
    )
    lengths = np.concatenate([day.taken.lengths for day in days])
    values = np.concatenate([day.taken.values for day in days])
    return fit_weights(pool, Ragged.of_lengths(values, lengths), KS)


def figures(days: Sequence[DayLists]) -> dict[str, np.ndarray]:
    """Recall by user and way of weighing."""
    ways: dict[str, np.ndarray] = {}
    for number, name in enumerate(SOURCES):
        alone = np.full(len(SOURCES), FILL_WEIGHT)
        alone[number] = 1
        ways[name] = recalls(days, alone)
    ways["all alike"] = recalls(days, np.ones(len(SOURCES)))
    for kind in WEIGHTS:
        ways[f"prior, {kind}"] = recalls(days, prior_weights(SOURCES, kind))
    of_days = []
    for day in days:
        others = [other for other in days if other is not day]
        of_days.append(recalls([day], fitted(others)))
    ways["fitted on other days"] = np.concatenate(of_days)
    return ways


def table(ways: Mapping[str, np.ndarray]) -> str:
    """Means with intervals, as text, and the difference to the prior weights."""
    rng = np.random.default_rng(0)
    users = len(next(iter(ways.values())))
    drawn = rng.integers(0, users, (1_000, users))
    lines = [f"{users:,} users"]
    for name, values in ways.items():
        low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
        lines.append(f"{name:24}{values.mean():8.4f}   {low:.4f}-{high:.4f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path, help="where small_shop keeps a shop's days")
    options = parser.parse_args()
    newest = max(options.shop.glob("days/*/train/lists"), key=lambda path: int(path.parts[-3]))
    days = stored_lists.read(str(newest.parent))
    print(f"{days[-1].day} to {days[0].day}: kind {kind_of_log(days)}")
    print(table(figures(days)))
    weights = dict(zip(SOURCES, fitted(days).round(3).tolist(), strict=True))
    print(f"fitted on all days: {weights}")


if __name__ == "__main__":
    main()
