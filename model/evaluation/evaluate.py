"""Measures a day: how near each list came to what was taken, for whom, and how sure that is.

Measures are a flat dictionary such as {"seen": "kept", "users": 9000, "recall@50": .1, …} of lists
in which the user's past items may appear again, with three more in it where they were asked for:

    slices     {"users": {"0": {"users", "queries", "recall@50", …}, "1-4": …},
                "items": {"0": {"users", "true", "recall@50", …}, …, "outside": {"true"}}}
               users by events in the history window before the day; true items by events in the
               count window before it, each user's recall of those alone, averaged over the users
               who have some. Items outside the corpus cannot be found
    intervals  {"recall@50": [low, high], "recall@50/users:1-4": …}, of means over users
               (twinspire_core/metrics/bootstrap.py); what is a property of all lists together
               (coverage, Gini, overlap) has none
    excluded   the same measures of lists without the user's past items

`users` are those with a past: newcomers count in their slice alone. The gate looks at lists with
seen items kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, rank, rank_baselines
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.diversity import exposure, popular_share
from twinspire_core.metrics.ranking import by_place, distinct, hits, means
from twinspire_core.metrics.slices import slice_of

Measures = dict[str, Any]


def evaluate_split(
    split: EvaluationSet, queries: np.ndarray, items: np.ndarray, ks: Sequence[int]
) -> Measures:
    """Measures two towers by exact search of the whole corpus; arguments as those of `rank`."""
    return evaluate_ranked(split, rank(split, queries, items, max(ks)), ks)


def evaluate_baselines(split: EvaluationSet, ks: Sequence[int]) -> dict[str, Measures]:
    """Measures the lists that need no model, by name."""
    return {
        name: evaluate_ranked(split, ranked, ks)
        for name, ranked in rank_baselines(split, max(ks)).items()
    }


def evaluate_ranked(split: EvaluationSet, ranked: RankedLists, ks: Sequence[int]) -> Measures:
    """Measures lists with seen items kept, and under `excluded` those without."""
    measured = {"seen": "kept", **evaluate_lists(split, ranked.kept, ks)}
    if ranked.excluded is not None:
        measured["excluded"] = {"seen": "excluded", **evaluate_lists(split, ranked.excluded, ks)}
    return measured


def evaluate_lists(split: EvaluationSet, ranked: np.ndarray, ks: Sequence[int]) -> Measures:
    """Measures ready-made lists.

    Args:
      split: from `prepare`.
      ranked: [U, L] positions, best first, -1 behind the end.
      ks: list lengths.
    """
    values = by_query(split, ranked, ks)
    average = means({name: x for name, x in values.items() if "/" not in name})
    measured: Measures = {
        "users": split.users,
        "queries": int(split.headline.sum()),
        "days": split.days,
        "items": split.items,
        **average,
        **exposure(ranked[split.headline], ks, split.items),
    }
    if split.bounds:
        measured["slices"] = _slices(split, values)
    if split.resamples:
        resampled = resampled_means(values, split.user, split.resamples)
        measured["intervals"] = {name: list(span) for name, span in intervals(resampled).items()}
    return measured


def compare(
    split: EvaluationSet, ranked: np.ndarray, baseline: np.ndarray, ks: Sequence[int]
) -> dict[str, dict[str, float]]:
    """How much better one set of lists is than another for the same queries, as a share of the
    other's measure.

    Args:
      split: from `prepare`.
      ranked: [U, L] positions, the lists compared.
      baseline: [U, L] positions, those compared with.
      ks: list lengths.

    Returns: by measure (`recall@50`, `recall@50/users:0`, …) its `change`, .1 for a tenth more; the
    number of users whose two lists `differ` in it; and where there are resamples the interval of
    the change, `low` and `high`: paired, both lists being resampled alike. A resample in which
    neither list finds anything tells of no change. Measures that are 0 for the baseline, and those
    of all lists together, are not there.
    """
    ours, theirs = by_query(split, ranked, ks), by_query(split, baseline, ks)
    after, before = means(ours), means(theirs)
    found: dict[str, dict[str, float]] = {}
    for name in (name for name in ours if before[name] > 0):
        other = np.abs(ours[name] - theirs[name]) > 0
        found[name] = {"change": after[name] / before[name] - 1, "differ": split.users_among(other)}
    if split.resamples:
        sums = (
            resampled_means({n: x[n] for n in found}, split.user, split.resamples)
            for x in (ours, theirs)
        )
        ours_again, theirs_again = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            pairs = {name: (ours_again[name], theirs_again[name]) for name in found}
            changes = {
                name: np.where(one == two, 0.0, one / two - 1) for name, (one, two) in pairs.items()
            }
        for name, (low, high) in intervals(changes).items():
            found[name] |= {"low": low, "high": high}
    return found


def by_query(split: EvaluationSet, ranked: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures of each query's list by name, [U] float64, nan where one does not apply.

    `recall@50` is of the headline; `recall@50/users:0` of a slice of users; `recall@50/items:0` of
    the true items of that slice, in the headline.
    """
    hit = hits(ranked, split.truth)
    of_all = {**by_place(hit, distinct(split.truth), ks), **popular_share(ranked, split.hot, ks)}
    values = {name: np.where(split.headline, x, np.nan) for name, x in of_all.items()}
    if not split.bounds:
        return values
    users, items = (slice_of(x, split.bounds) for x in (split.past_events, split.events))
    item_of = np.append(items, -1)  # -1, no item, is the last
    item_of_hit = item_of[ranked[hit.row, hit.values]]
    for number, name in enumerate(measure_names.names(split.bounds)):
        values |= {
            measure_names.key(m, measure_names.USERS, name): np.where(users == number, x, np.nan)
            for m, x in of_all.items()
        }
        wanted = distinct(split.truth.where(item_of[split.truth.values] == number))
        found = by_place(hit.where(item_of_hit == number), np.where(split.headline, wanted, 0), ks)
        values |= {
            measure_names.key(f"recall@{k}", measure_names.ITEMS, name): found[f"recall@{k}"]
            for k in ks
        }
    return values


def _slices(
    split: EvaluationSet, values: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Measures]]:
    average = means({name: x for name, x in values.items() if "/" in name})
    users, items = (slice_of(x, split.bounds) for x in (split.past_events, split.events))
    known = split.truth.where(split.headline[split.truth.row])
    true = known.where(known.values >= 0)
    found: dict[str, dict[str, Measures]] = {measure_names.USERS: {}, measure_names.ITEMS: {}}
    for number, name in enumerate(measure_names.names(split.bounds)):
        mine, theirs = users == number, items[true.values] == number
        asked = np.bincount(true.row[theirs], minlength=true.rows) > 0
        found[measure_names.USERS][name] = {
            "users": split.users_among(mine),
            "queries": int(mine.sum()),
        }
        found[measure_names.ITEMS][name] = {
            "users": split.users_among(asked),
            "true": int(theirs.sum()),
        }
        for side, measures in found.items():
            if measures[name]["users"]:
                ending = measure_names.key("", side, name)
                measures[name] |= {
                    m.removesuffix(ending): x for m, x in average.items() if m.endswith(ending)
                }
    found[measure_names.ITEMS]["outside"] = {"true": int((known.values < 0).sum())}
    return found


def headline(measures: Mapping[str, Any], ks: Sequence[int]) -> dict[str, float]:
    """The measures that a table shows, in its order."""
    names = [f"recall@{k}" for k in ks] + [
        f"ndcg@{min(ks)}",
        f"hit_rate@{min(ks)}",
        "mrr",
        f"coverage@{max(ks)}",
    ]
    return {name: measures[name] for name in names if name in measures}
