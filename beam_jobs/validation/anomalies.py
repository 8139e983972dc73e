"""Whether a day's data looks like data: against the schema known so far, and against an earlier
day.

The limits are those of the pipeline file's table `statistics`. What is out of them is written down
as TFDV's Anomalies.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies, AnomalyInfo
from tensorflow_metadata.proto.v0.statistics_pb2 import (
    FeatureNameStatistics,
)

from beam_jobs.validation import data_schema, statistics
from beam_jobs.validation.drift import ComparedDays, Drift, Measured, drifts, furthest
from beam_jobs.validation.statistics import by_name, common, shares
from twinspire_core import storage
from twinspire_core.config.feature_kinds import IdFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import DayStatistics
from twinspire_core.errors import BadData
from twinspire_core.terminal import console

FILE = "anomalies.pbtxt"

_SHOWN = 3

Kind = AnomalyInfo.Type


class Anomaly(NamedTuple):
    """Something that is out of its limits.

    Attributes:
      feature: column of the examples; None for the data as a whole.
      kind: TFDV's name for it.
      text: what was found, and which limit it breaks.
    """

    feature: str | None
    kind: int
    text: str

    def __str__(self) -> str:
        if self.feature is None:
            return self.text
        return f"{self.feature}: {self.text}"


def check(
    p: Pipeline, out: str, baseline: str | None = None, when: str = "the day before"
) -> DayStatistics:
    """Infers the schema, looks for anomalies and writes both beside the statistics.

    Args:
      p: the pipeline.
      out: URI of the features stage's output, with statistics.
      baseline: URI of the output of an earlier day's features stage, the newest there is.
      when: that day, as people are told.

    Returns:
      What the report says of them, but for the day that they were compared with.

    Raises:
      BadData: there are anomalies, and `statistics.on_anomaly` is `fail`.
    """
    folder = storage.join(out, feature_schema.STATISTICS)
    compared = ComparedDays(p, statistics.read(folder), schema_pb2.Schema())
    if baseline:
        before = storage.join(baseline, feature_schema.STATISTICS)
        compared = compared._replace(
            known=data_schema.read(before), earlier=statistics.read(before), when=when
        )
    # The day's values are judged by the schema before it, and enter the one that is written: what is
    # new today is known tomorrow.
    data_schema.write(data_schema.infer(p, compared.stats, compared.known), folder)
    measured = drifts(compared)
    found = find(compared, measured)
    place = storage.join(folder, FILE)
    report = text_format.MessageToString(to_proto(compared, found, measured))
    storage.write_bytes(place, report.encode())
    _act_on(p, found, place)
    return DayStatistics(
        rows=compared.stats.datasets[0].num_examples,
        anomalies=[str(finding) for finding in found],
    )


def _act_on(p: Pipeline, anomalies: list[Anomaly], where: str) -> None:
    """Fails, warns or says nothing, as `statistics.on_anomaly` has it."""
    listed = "\n".join(f"  - {finding}" for finding in anomalies)
    if anomalies and p.statistics.on_anomaly == "fail":
        raise BadData(
            "A day's statistics stay within the limits of [statistics]; these do"
            f" not:\n{listed}\nDetails: {where}. Mend the logs and run the day again; or, if the"
            ' day is right as it is, raise the limit or set statistics.on_anomaly = "warn".'
        )
    if anomalies and p.statistics.on_anomaly == "warn":
        console.print(
            f"Unusual data (statistics.on_anomaly is warn):\n{listed}", markup=False, soft_wrap=True
        )


def find(compared: ComparedDays, measured: Mapping[str, Drift]) -> list[Anomaly]:
    """What is out of its limits."""
    return [
        *_all_missing(compared),
        *_unknown(compared),
        *_volume(compared),
        *_nulls(compared),
        *_too_far(compared, measured),
    ]


def _all_missing(c: ComparedDays) -> Iterator[Anomaly]:
    """Columns without any value."""
    for name, feature in by_name(c.stats).items():
        if c.stats.datasets[0].num_examples and not common(feature).num_non_missing:
            yield Anomaly(name, Kind.FEATURE_TYPE_NOT_PRESENT, "missing in every row")


def _unknown(c: ComparedDays) -> Iterator[Anomaly]:
    """Categories of which too many values were never seen before."""
    known_values = data_schema.known_values(c.known)
    limit = c.p.statistics.max_unknown
    for name, feature in by_name(c.stats).items():
        if name not in known_values:
            continue
        known = known_values[name]
        new = {value: share for value, share in shares(feature).items() if value not in known}
        total = sum(new.values())
        if total > limit:
            shown = ", ".join(map(repr, list(new)[:_SHOWN]))
            text = (
                f"{total:.1%} of the values were never seen before ({shown}), more than max_unknown"
                f" = {limit:g}"
            )
            yield Anomaly(name, Kind.ENUM_TYPE_UNEXPECTED_STRING_VALUES, text)


def _volume(c: ComparedDays) -> Iterator[Anomaly]:
    """Far more or far fewer rows than on the earlier day."""
    if c.earlier is None:
        return
    now = c.stats.datasets[0].num_examples
    then = c.earlier.datasets[0].num_examples
    limit = c.p.statistics.max_volume_change
    change = (now - then) / max(1, now, then)
    if abs(change) <= limit:
        return
    kind = Kind.COMPARATOR_LOW_NUM_EXAMPLES
    if change > 0:
        kind = Kind.COMPARATOR_HIGH_NUM_EXAMPLES
    text = (
        f"{now:,} rows after {then:,} on {c.when}: a relative change of {abs(change):.2f}, more"
        f" than max_volume_change = {limit:g}"
    )
    yield Anomaly(None, kind, text)


def _nulls(c: ComparedDays) -> Iterator[Anomaly]:
    """Columns that are missing in far more or far fewer of the rows than on the earlier day."""
    limit = c.p.statistics.max_null_change
    for name, feature, before in c.pairs():
        now = _missing(feature)
        then = _missing(before)
        if abs(now - then) <= limit:
            continue
        # TFDV has no name for fewer missing values.
        kind = Kind.CUSTOM_VALIDATION
        if now > then:
            kind = Kind.FEATURE_TYPE_LOW_FRACTION_PRESENT
        text = (
            f"missing in {now:.1%} of the rows after {then:.1%} on {c.when}: a change of more"
            f" than max_null_change = {limit:g}"
        )
        yield Anomaly(name, kind, text)


def _missing(feature: FeatureNameStatistics) -> float:
    """Share of the rows without a value."""
    stats = common(feature)
    return float(stats.num_missing / max(1, stats.num_missing + stats.num_non_missing))


def _too_far(c: ComparedDays, measured: Mapping[str, Drift]) -> Iterator[Anomaly]:
    """Columns whose distribution is too far from that of the earlier day."""
    ids = {"_user", "_item", *c.p.of_kind(IdFeature)}  # they come and go
    for name, now, then in c.pairs():
        drift = measured.get(name, Measured())
        if name in ids or drift.value <= drift.threshold:
            continue
        if drift.type == Measured.L_INFTY:
            yield _shifted_category(c, name, now, then, drift)
        elif now.num_stats.median != then.num_stats.median:
            text = (
                f"median {now.num_stats.median:g} after {then.num_stats.median:g} on {c.when}:"
                f" Jensen-Shannon divergence {drift.value:.3f}, more than"
                f" max_js = {c.p.statistics.max_js:g}"
            )
            yield Anomaly(name, Kind.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH, text)


def _shifted_category(
    c: ComparedDays,
    name: str,
    now: FeatureNameStatistics,
    then: FeatureNameStatistics,
    drift: Drift,
) -> Anomaly:
    shares_now = shares(now)
    shares_then = shares(then)
    value = furthest(shares_now, shares_then)
    share_now = shares_now.get(value, 0)
    share_then = shares_then.get(value, 0)
    limit = f"max_linf = {c.p.statistics.max_linf:g}"
    if drift.threshold > c.p.statistics.max_linf:
        limit = f"{drift.threshold:.3f}, which chance may make of so few values (and {limit})"
    text = (
        f"{value!r} went from {share_then:.1%} on {c.when} to {share_now:.1%}: L-infinity distance"
        f" {drift.value:.3f}, more than {limit}"
    )
    return Anomaly(name, Kind.COMPARATOR_L_INFTY_HIGH, text)


def to_proto(c: ComparedDays, anomalies: list[Anomaly], measured: Mapping[str, Drift]) -> Anomalies:
    """Writes findings down as TFDV does."""
    fails = c.p.statistics.on_anomaly == "fail"
    severity = AnomalyInfo.ERROR if fails else AnomalyInfo.WARNING
    result = Anomalies(baseline=c.known)
    for finding in anomalies:
        if finding.feature is None:
            entry = result.dataset_anomaly_info
        else:
            entry = result.anomaly_info[finding.feature]
            entry.path.step[:] = [finding.feature]
        entry.severity = severity
        entry.reason.add(
            type=finding.kind, short_description=Kind.Name(finding.kind), description=finding.text
        )
        entry.description = "; ".join(reason.description for reason in entry.reason)
        entry.short_description = "; ".join(reason.short_description for reason in entry.reason)
    for name, measurement in measured.items():
        entry = result.drift_skew_info.add(drift_measurements=[measurement])
        entry.path.step.append(name)
    return result
