"""The gate's rule on skew: whether what is served looks like what training saw
(beam_jobs/validation/skew.py). A tower that meets values which it never saw gives vectors that mean
nothing, and recall on the day that was trained on does not tell.

Beyond `MAX_SKEW` or `MOST_OUTSIDE` it is noted; with `gate.on_skew = "refuse"`, refused. A
refresh that nobody asked for, as it follows a refused day, is refused beyond `MOST_OUTSIDE` in
either case: what was wrong with the day may be its catalogue.
"""

from collections.abc import Iterator, Sequence

from index_builder.gate.comparison import Finding
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange

MAX_SKEW = 0.3
"""How far a feature may be from the rows trained on: seasons move them by less."""
MOST_OUTSIDE = 0.1
"""Share of what is served, by events, whose values may lie outside the range of those trained on."""
_UNIT_FACTOR = 20
"""Medians that differ by so many times are rather another unit than another season."""


def judge_skew(
    features: Sequence[FeatureSkew], gate: GateConfig, *, unasked: bool = False
) -> Iterator[Finding]:
    """Holds the features of what is served to the limits.

    Args:
      features: how far each is from training; empty where nobody knows.
      unasked: whether it is a refresh that nobody asked for.
    """
    if gate.on_skew == "ignore":
        return
    for one in features:
        beyond = [
            f"{text}, above {limit:g}"
            for value, limit, text in (
                (one.distance, MAX_SKEW, _distance_text(one)),
                (one.outside, MOST_OUTSIDE, _outside_text(one)),
            )
            if value > limit
        ]
        if beyond:
            text = (
                f"{one.feature} is not served as it was trained on: {describe(one)}"
                f" ({'; '.join(beyond)}). {_cause(one)}"
            )
            unknown = unasked and one.outside > MOST_OUTSIDE
            yield Finding(gate.on_skew == "refuse" or unknown, text)


def describe(one: FeatureSkew) -> str:
    """Where the values lie, in training and as they are served."""
    if one.trained and one.served:
        return (
            f"{_range_text(one.trained)} in training, {_range_text(one.served)} now,"
            f" {one.outside:.0%} of it outside"
        )
    return f"{one.value!r} was {one.trained_share:.1%} in training, and is {one.served_share:.1%}"


def _range_text(values: ValueRange) -> str:
    return (
        f"{values.low:g} to {values.high:g} (mostly {values.tenth:g} to {values.ninetieth:g},"
        f" median {values.median:g})"
    )


def _distance_text(one: FeatureSkew) -> str:
    name = "Jensen-Shannon divergence" if one.served else "L-infinity distance"
    return f"{name} {one.distance:.2f}"


def _outside_text(one: FeatureSkew) -> str:
    return f"{one.outside:.0%} outside of what training met"


def _cause(one: FeatureSkew) -> str:
    """The probable cause, and what to do."""
    if not one.trained or not one.served:
        return (
            "Values may have been renamed, or the catalogue exchanged: compare the newest snapshot"
            " with those before"
        )
    higher = one.served.median > one.trained.median
    if one.kind == "count" and not higher:
        return (
            "The last days were quiet, or logs are missing: run days that were left out; a window"
            " (days) of a week or more wavers less than one of a day"
        )
    if one.kind == "count":
        return (
            "The last days were busier than those trained on, or training saw the counts of a day's"
            " start beside what was taken later that day, as with news: take a longer window"
            " (days), or leave the feature out"
        )
    if one.kind == "age":
        return (
            f"{'Few' if higher else 'Nearly all'} items are new, compared with training: the day may be"
            " late, logs may end early, or window.count_days be shorter than the logs were then;"
            " train on more days (--mode full)"
        )
    trained = abs(one.trained.median)
    served = abs(one.served.median)
    if max(trained, served) > _UNIT_FACTOR * min(trained, served):
        return "The unit may have changed: compare the newest snapshot with those before"
    return "Look at the newest snapshot; where it is right, train on more days (--mode full)"
