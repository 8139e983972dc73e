"""Whether the data of a day is unusual: compared with the values of all days before, and with an
earlier day. The limits are those of `[statistics]` in the pipeline file, and the constants below.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from beam_jobs.validation.drift import (
    LEAST_VALUES,
    Numbers,
    furthest,
    grows_with_the_log,
    linf,
    noise,
)
from beam_jobs.validation.statistics import LISTED
from twinspire_core import storage
from twinspire_core.config.feature_kinds import (
    CategoriesFeature,
    CategoryFeature,
    IdFeature,
    TimeFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.features_report import Column, DayStatistics, Distance, StatisticsFile
from twinspire_core.errors import BadData
from twinspire_core.terminal import console

MAX_UNKNOWN = 0.5
"""Share of a category's values that may be new: where more are, the column was probably renamed."""
MAX_VOLUME_CHANGE = 0.8
"""Change of the number of rows, as a share of the larger one: a factor of 5."""
MAX_NULL_CHANGE = 0.2
"""Largest change of the share of missing values: quiet and busy days differ by less."""
_SHOWN = 3


class ComparedDays(NamedTuple):
    """Statistics of the day, and of an earlier day.

    Attributes:
      then: of the newest earlier day; empty on the first day.
      when: that day, as messages call it.
    """

    p: Pipeline
    now: StatisticsFile
    then: StatisticsFile
    when: str

    def pairs(self) -> Iterator[tuple[str, Column, Column]]:
        """Columns that both days have, with the same type."""
        for name, now in self.now.examples.items():
            earlier = self.then.examples.get(name)
            if earlier is not None and earlier.type == now.type:
                yield name, now, earlier


def check_day(p: Pipeline, out: str, then: StatisticsFile, when: str) -> DayStatistics:
    """Looks for anomalies, and writes them into the day's statistics.

    Args:
      out: URI of the features stage's output, with statistics.
      then: statistics of the newest earlier day; empty on the first day.
      when: that day, as messages call it.

    Returns: their part of the report, without the day that they were compared with.

    Raises:
      BadData: there are anomalies, and `statistics.on_anomaly` is `fail`.
    """
    compared = ComparedDays(p, StatisticsFile.read(out), then, when)
    drift = drifts(compared)
    anomalies = find(compared, drift)
    # The day's values are judged by those known before it, and then added: what is new today is
    # known tomorrow.
    values = known_values(compared)
    compared.now.model_copy(update={"anomalies": anomalies, "drift": drift, "known": values}).write(
        out
    )
    _act_on(p, anomalies, storage.join(out, StatisticsFile.FILE))
    return DayStatistics(rows=compared.now.rows, anomalies=anomalies)


def _act_on(p: Pipeline, anomalies: list[str], where: str) -> None:
    """Fails, warns or says nothing, by `statistics.on_anomaly`."""
    listed = "\n".join(f"  - {text}" for text in anomalies)
    if anomalies and p.statistics.on_anomaly == "fail":
        raise BadData(
            "A day's statistics must stay within the limits of [statistics]; these do"
            f" not:\n{listed}\nDetails: {where}. If the logs are wrong, correct them and run the day"
            " again. If they are right, raise statistics.max_drift (for drift), or set"
            ' statistics.on_anomaly = "warn".'
        )
    if anomalies and p.statistics.on_anomaly == "warn":
        console.print(
            f"Unusual data (statistics.on_anomaly is warn):\n{listed}", markup=False, soft_wrap=True
        )


def known_values(c: ComparedDays) -> dict[str, list[str]]:
    """Values that each category has had up to the day; without columns of too many values."""
    values_by_name = {}
    for name, column in c.now.examples.items():
        feature = c.p.features.get(name)
        if not isinstance(feature, CategoryFeature | CategoriesFeature):
            continue
        # Values of earlier days stay known: one that comes back after months is nothing new.
        values = {*c.then.known.get(name, ()), *column.listed}
        # Only where every value is listed: with some of them, the others would count as unknown.
        if column.exact and len(values) <= LISTED:
            values_by_name[name] = sorted(map(str, values))
    return values_by_name


def drifts(c: ComparedDays) -> dict[str, Distance]:
    """Distance of each column's values from those of the earlier day."""
    # Two days in a row never share a weekday.
    weekdays = {
        column
        for name, f in c.p.of_kind(TimeFeature).items()
        for column, part in f.parts_by_column(name).items()
        if part == "weekday"
    }
    distances = {}
    for name, now, earlier in c.pairs():
        values = min(sum(now.counts), sum(earlier.counts))
        if name in weekdays or values < LEAST_VALUES:
            continue
        if grows_with_the_log(c.p, name, now.max, earlier.max):
            continue
        # Of strings the share that moved most counts.
        if now.type == "string":
            limit = max(c.p.statistics.max_drift, noise(values))
            value = linf(now.shares, earlier.shares)
            distances[name] = Distance(measure="L-infinity distance", value=value, limit=limit)
        else:
            value = Numbers.of(now).distance(Numbers.of(earlier))
            limit = c.p.statistics.max_drift
            distances[name] = Distance(
                measure="Jensen-Shannon divergence", value=value, limit=limit
            )
    return distances


def find(c: ComparedDays, drift: Mapping[str, Distance]) -> list[str]:
    """What is out of its limits, and which limit it breaks."""
    of_columns = [*_all_missing(c), *_unknown(c), *_volume(c), *_nulls(c), *_too_far(c, drift)]
    return [f"{name}: {text}" if name else text for name, text in of_columns]


def _all_missing(c: ComparedDays) -> Iterator[tuple[str, str]]:
    """Columns without any value."""
    for name, column in c.now.examples.items():
        if column.rows and not column.present:
            yield name, "missing in every row"


def _unknown(c: ComparedDays) -> Iterator[tuple[str, str]]:
    """Categories of which too many values were never seen before."""
    for name, now, _ in c.pairs():
        # Without a list of all earlier values, every value would look new.
        if name not in c.then.known:
            continue
        known = set(c.then.known[name])
        new = {value: share for value, share in now.shares.items() if value not in known}
        total = sum(new.values())
        if total > MAX_UNKNOWN:
            shown = ", ".join(map(repr, list(new)[:_SHOWN]))
            yield (
                name,
                f"{total:.1%} of the values were never seen before ({shown}), more than"
                f" {MAX_UNKNOWN:.0%}",
            )


def _volume(c: ComparedDays) -> Iterator[tuple[None, str]]:
    """Far more or far fewer rows than on the earlier day."""
    now = c.now.rows
    earlier = c.then.rows
    change = (now - earlier) / max(1, now, earlier)
    if c.then.examples and abs(change) > MAX_VOLUME_CHANGE:
        yield (
            None,
            f"{now:,} rows after {earlier:,} on {c.when}: a relative change of {abs(change):.2f}, more"
            f" than {MAX_VOLUME_CHANGE:g}",
        )


def _nulls(c: ComparedDays) -> Iterator[tuple[str, str]]:
    """Columns that are missing in far more or far fewer of the rows than on the earlier day."""
    for name, column, before in c.pairs():
        now = column.missing / max(1, column.rows)
        earlier_share = before.missing / max(1, before.rows)
        if abs(now - earlier_share) > MAX_NULL_CHANGE:
            yield (
                name,
                f"missing in {now:.1%} of the rows after {earlier_share:.1%} on {c.when}: a change of more"
                f" than {MAX_NULL_CHANGE:.0%}",
            )


def _too_far(c: ComparedDays, drift: Mapping[str, Distance]) -> Iterator[tuple[str, str]]:
    """Columns whose distribution is too far from that of the earlier day."""
    ids = {"_user", "_item", *c.p.of_kind(IdFeature)}  # they come and go
    for name, now, earlier in c.pairs():
        distance = drift.get(name)
        if name in ids or distance is None or distance.value <= distance.limit:
            continue
        if now.type == "string":
            yield name, _shifted_category(c, now, earlier, distance)
            continue
        medians = [side.quantiles[5] for side in (now, earlier)]
        if medians[0] != medians[1]:
            yield (
                name,
                f"median {medians[0]:g} after {medians[1]:g} on {c.when}: {distance.measure}"
                f" {distance.value:.3f}, more than max_drift = {c.p.statistics.max_drift:g}",
            )


def _shifted_category(c: ComparedDays, now: Column, earlier: Column, distance: Distance) -> str:
    value = furthest(now.shares, earlier.shares)
    share_now = now.shares.get(value, 0)
    share_then = earlier.shares.get(value, 0)
    limit = f"max_drift = {c.p.statistics.max_drift:g}"
    if distance.limit > c.p.statistics.max_drift:
        limit = f"{distance.limit:.3f}, which chance may make of so few values (and {limit})"
    return (
        f"{value!r} went from {share_then:.1%} on {c.when} to {share_now:.1%}: {distance.measure}"
        f" {distance.value:.3f}, more than {limit}"
    )
