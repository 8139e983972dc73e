"""Measures lists with recall@k and others, by slices and with intervals, and compares two sets of lists for
the same users.

Measures are a flat dictionary, such as {"seen": "kept", "users": 9000, "recall@50": 0.1, …}, for lists that
may repeat items of the user's history. It may have three more entries:

    slices     {"users": {"0": {"users", "queries", "recall@50", …}, "1-4": …},
                "items": {"0": {"users", "true", "recall@50", …}, …, "outside": {"true"}}}
               Users are sliced by their events in the longest window before the day, true items by
               their events in the count window before it. The recall of a slice of items counts only
               these items, and is the mean over users who took some of them. No list can contain items
               outside the corpus.
    intervals  {"recall@50": [low, high], "recall@50/users:1-4": …}, for means over users
               (twinspire_core/metrics/intervals.py). Coverage, Gini coefficient and popular share
               are properties of all lists together, and have no interval.
    excluded   The same measures for lists without items of the user's history. Items that a user took
               again still count as true items, and such lists miss them.

With `serving.exclude_seen`, the lists without seen items are the main ones: the flat measures are
`"seen": "excluded"`, and the entry `kept` has the measures of the lists with seen items. So code that
compares versions does not depend on the kind.

`users` counts users with earlier events. New users count only in their own slice.

U queries of an evaluation set, L places of a list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from model.evaluation.evaluation_set import EvaluationSet
from model.evaluation.ranked_lists import RankedLists, rank_baselines
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.intervals import intervals, resampled_means
from twinspire_core.metrics.list_metrics import (
    by_place,
    distinct,
    exposure,
    hits,
    means,
    popular_share,
    slice_of,
)
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT

_DIGITS = 7
MeasuresDict = dict[str, Any]
"""Measures before they are checked and typed: `twinspire_core.contracts.measures.Measures`."""


def evaluate_baselines(
    evaluation_set: EvaluationSet, ks: Sequence[int], sources: Mapping[str, RankedLists] = {}
) -> dict[str, MeasuresDict]:
    """Measures the lists that need no model, by name: simple ones, and those of `sources`."""
    lists = {**rank_baselines(evaluation_set, max(ks)), **sources}
    return {name: evaluate_ranked(evaluation_set, x, ks) for name, x in lists.items()}


def evaluate_ranked(
    evaluation_set: EvaluationSet, ranked: RankedLists, ks: Sequence[int]
) -> MeasuresDict:
    """Measures both kinds of lists. The main kind is flat, the other one is an entry of its own."""
    kinds = {KEPT: ranked.kept}
    if ranked.excluded is not None:
        kinds[EXCLUDED] = ranked.excluded
    measured = {
        seen: {"seen": seen, **evaluate_lists(evaluation_set, lists, ks)}
        for seen, lists in kinds.items()
    }
    # Flat, so that code that compares versions does not depend on which kind is the main one.
    counted = measured.pop(EXCLUDED if evaluation_set.exclude_seen else KEPT)
    return {**counted, **measured}


def evaluate_lists(
    evaluation_set: EvaluationSet, ranked: np.ndarray, ks: Sequence[int]
) -> MeasuresDict:
    """Measures lists, [U, L] int64 positions, best first, -1 after the end, by their first `ks` items."""
    values = by_query(evaluation_set, ranked, ks)
    measured: MeasuresDict = {
        "users": evaluation_set.users,
        "queries": int(evaluation_set.headline.sum()),
        "days": evaluation_set.days,
        "items": evaluation_set.items,
        **means({name: x for name, x in values.items() if "/" not in name}),
        **exposure(ranked[evaluation_set.headline], ks, evaluation_set.items),
    }
    if evaluation_set.bounds:
        measured["slices"] = _slices(evaluation_set, values)
    if evaluation_set.resamples:
        resampled = resampled_means(values, evaluation_set.user, evaluation_set.resamples)
        measured["intervals"] = {name: list(span) for name, span in intervals(resampled).items()}
    return measured


def compare(
    evaluation_set: EvaluationSet, ranked: np.ndarray, baseline: np.ndarray, ks: Sequence[int]
) -> dict[str, dict[str, float]]:
    """The relative changes of measures from one set of lists to another, for the same queries.

    Args:
      evaluation_set: the queries, with the true items of each.
      ranked: [U, L] positions, the lists to compare.
      baseline: [U, L] positions, the lists to compare with.
      ks: the lengths of lists to measure.

    Returns: by measure (`recall@50`, `recall@50/users:0`, …): the `change`, 0.1 for 10% more; the number
    of users whose lists `differ`, and of those whose list is `worse`; with resamples, the paired interval
    `low` to `high` of the change. Measures that are 0 for the baseline, and those of all lists together,
    are left out.
    """
    ours = by_query(evaluation_set, ranked, ks)
    theirs = by_query(evaluation_set, baseline, ks)
    our_means, their_means = means(ours), means(theirs)
    changes: dict[str, dict[str, float]] = {}
    for name in ours:
        if their_means[name] > 0:
            # NaN if a measure does not apply. Comparisons with NaN are false, so it is not counted.
            difference = ours[name] - theirs[name]
            changes[name] = {
                "change": our_means[name] / their_means[name] - 1,
                "differ": evaluation_set.users_among(np.abs(difference) > 0),
                "worse": evaluation_set.users_among(difference < 0),
            }
    if evaluation_set.resamples:
        # Both with the same resamples of users, so that what they have in common cancels out.
        resampled, resampled_base = (
            resampled_means(
                {name: values[name] for name in changes},
                evaluation_set.user,
                evaluation_set.resamples,
            )
            for values in (ours, theirs)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0 / 0 counts as no change: in this resample, neither list has a true item.
            in_resamples = {
                name: np.where(mean == resampled_base[name], 0.0, mean / resampled_base[name] - 1)
                for name, mean in resampled.items()
            }
        for name, (low, high) in intervals(in_resamples).items():
            changes[name] |= {"low": low, "high": high}
    return changes


def measure_against(
    evaluation_set: EvaluationSet,
    ranked: RankedLists | None,
    before: RankedLists | None,
    ks: Sequence[int],
) -> dict[str, Any]:
    """Users, measures of lists and of those of the version before, and their `change`, as
    `HeldOutMeasures` has them; None for what needs lists that are not there.
    """
    change = None
    if ranked and before:
        seen = evaluation_set.exclude_seen
        change = compare(evaluation_set, ranked.counted(seen), before.counted(seen), ks)
    return {
        "users": evaluation_set.users,
        "candidate": ranked and evaluate_ranked(evaluation_set, ranked, ks),
        "baseline": before and evaluate_ranked(evaluation_set, before, ks),
        "change": change,
    }


def paired_differences(
    evaluation_set: EvaluationSet,
    ranked: RankedLists,
    other: RankedLists,
    ks: Sequence[int],
    chosen: np.ndarray | None = None,
) -> PairedDifferences:
    """The differences between two sets of lists, user by user, in the measures that the gate judges. Only
    the main kind of lists counts.

    Args:
      evaluation_set: one query per user.
      ranked: the lists to compare.
      other: the lists to compare with.
      ks: the lengths of lists to measure.
      chosen: [U] bool, the queries that count; None for all.
    """
    # Without slices: only measures of all users are kept below, so no others are computed.
    whole = replace(evaluation_set, bounds=())
    seen = evaluation_set.exclude_seen
    ours = by_query(whole, ranked.counted(seen), ks)
    theirs = by_query(whole, other.counted(seen), ks)
    counted = np.ones(len(ranked.kept), bool) if chosen is None else chosen
    by_measure = {}
    for name in (name for name in ours if name in measure_names.headline(ks)):
        difference = ours[name] - theirs[name]
        # NaN if a measure does not apply: new users count only in their own slice.
        applies = counted & np.isfinite(difference)
        if applies.any():
            by_measure[name] = describe_differences(difference[applies], theirs[name][applies])
    users = evaluation_set.users_among(counted & evaluation_set.headline)
    return PairedDifferences(users=users, by_measure=by_measure)


def describe_differences(difference: np.ndarray, base: np.ndarray) -> PairedDifference:
    """A summary of differences, [N] float64, and of the measure of the other lists, [N]."""
    deviation = difference.std(ddof=1) if len(difference) > 1 else 0.0
    return PairedDifference(
        mean=round(float(difference.mean()), _DIGITS),
        base=round(float(base.mean()), _DIGITS),
        deviation=round(float(deviation), _DIGITS),
        differ=int(np.count_nonzero(difference)),
    )


def beside_simple_lists(
    evaluation_set: EvaluationSet, ranked: RankedLists | None, ks: Sequence[int]
) -> dict[str, PairedDifferences]:
    """`paired_differences` from each list that needs no model; empty without lists."""
    if ranked is None:
        return {}
    return {
        name: paired_differences(evaluation_set, ranked, other, ks)
        for name, other in rank_baselines(evaluation_set, max(ks)).items()
    }


def by_query(
    evaluation_set: EvaluationSet, ranked: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Measures of each query's list, by name, [U] float64; NaN if a measure does not apply.

    `recall@50` is for all users in the headline, `recall@50/users:0` for a slice of users, and
    `recall@50/items:0` for the headline's true items in a slice of items.
    """
    headline = evaluation_set.headline
    hit = hits(ranked, evaluation_set.truth)
    measures = {
        **by_place(hit, distinct(evaluation_set.truth), ks),
        **popular_share(ranked, evaluation_set.hot, ks),
    }
    values = {name: np.where(headline, x, np.nan) for name, x in measures.items()}
    if not evaluation_set.bounds:
        return values
    user_slice = slice_of(evaluation_set.past_events, evaluation_set.bounds)
    item_slice = slice_of(evaluation_set.events, evaluation_set.bounds)
    item_slice = np.append(item_slice, -1)  # for the position -1, which is no item and in no slice
    slice_of_hit = item_slice[ranked[hit.row, hit.values]]
    slice_of_truth = item_slice[evaluation_set.truth.values]
    for number, name in enumerate(measure_names.names(evaluation_set.bounds)):
        values |= {
            measure_names.key(measure, measure_names.USERS, name): np.where(
                user_slice == number, x, np.nan
            )
            for measure, x in measures.items()
        }
        wanted = distinct(evaluation_set.truth.where(slice_of_truth == number))
        wanted = np.where(headline, wanted, 0)  # queries without true items get NaN
        of_slice = by_place(hit.where(slice_of_hit == number), wanted, ks)
        values |= {
            measure_names.key(measure, measure_names.ITEMS, name): of_slice[measure]
            for measure in (f"recall@{k}" for k in ks)
        }
    return values


def _slices(
    evaluation_set: EvaluationSet, values: Mapping[str, np.ndarray]
) -> dict[str, dict[str, MeasuresDict]]:
    """The entry `slices` of measures, from `by_query`."""
    average = means({name: x for name, x in values.items() if "/" in name})
    user_slice = slice_of(evaluation_set.past_events, evaluation_set.bounds)
    item_slice = slice_of(evaluation_set.events, evaluation_set.bounds)
    truth = evaluation_set.truth.where(evaluation_set.headline[evaluation_set.truth.row])
    inside = truth.where(truth.values >= 0)
    slice_of_truth = item_slice[inside.values]
    measured: dict[str, dict[str, MeasuresDict]] = {
        measure_names.USERS: {},
        measure_names.ITEMS: {},
    }
    for number, name in enumerate(measure_names.names(evaluation_set.bounds)):
        in_slice = user_slice == number
        measured[measure_names.USERS][name] = {
            "users": evaluation_set.users_among(in_slice),
            "queries": int(in_slice.sum()),
        }
        is_true = slice_of_truth == number
        has_true = np.bincount(inside.row[is_true], minlength=inside.rows) > 0
        measured[measure_names.ITEMS][name] = {
            "users": evaluation_set.users_among(has_true),
            "true": int(is_true.sum()),
        }
        for side, of_side in measured.items():
            # Without users, the means would be 0, as if all lists of the slice were bad.
            if of_side[name]["users"]:
                ending = measure_names.key("", side, name)
                of_side[name] |= {
                    measure.removesuffix(ending): x
                    for measure, x in average.items()
                    if measure.endswith(ending)
                }
    measured[measure_names.ITEMS][measure_names.OUTSIDE] = {"true": int((truth.values < 0).sum())}
    return measured
