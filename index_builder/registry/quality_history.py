"""The quality of versions: on held-out users of a version's day, and on all users of the next day, as the
next day's run measured it.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from index_builder.registry.parents import parents
from index_builder.registry.version_log import Entry, State, version_date
from index_builder.registry.versions import Versions
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.display.served_figure import ServedFigure, on_held_out, on_its_day, on_next_day
from twinspire_core.errors import TwinspireError

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NextDay:
    """A version on the next day that was run, before anything was trained on that day.

    Attributes:
      version: the version of that day, whose metrics.json has the figures.
      metrics: the measures of that day; its `progressive` lists are the earlier version's.
      settings: the pipeline file of that day.
    """

    version: str
    metrics: DayMetrics
    settings: Mapping[str, Any]

    @property
    def day(self) -> date:
        """The day."""
        return version_date(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuality:
    """All measures of a version.

    Attributes:
      day: the day that it was trained up to.
      metrics: the measures of its day.
      gate: the gate's verdict.
      parent_gate: the verdict on its parent; empty without a parent.
      next_day: None until a day was run whose parent it is.
      settings: the pipeline file of its day.
    """

    day: date
    metrics: DayMetrics
    gate: GateVerdict
    parent_gate: GateVerdict
    next_day: NextDay | None
    settings: Mapping[str, Any]

    @property
    def holdout(self) -> HeldOutMeasures:
        """The version, its parent and the baselines on held-out users of its day."""
        return self.metrics.holdout

    def served(self, metric: str) -> ServedFigure | None:
        """Quality of the lists that the version serves: on the next day, else on held-out users."""
        serves = self.gate.serves
        if (later := self.next_day) and (
            figure := on_next_day(later.metrics, serves, later.day, metric)
        ):
            return figure
        return on_held_out(self.metrics, serves, self.day, metric)

    def settings_of(self, figure: ServedFigure) -> Mapping[str, Any]:
        """Settings of the pipeline file by which a figure was measured."""
        if self.next_day and not figure.held_out:
            return self.next_day.settings
        return self.settings

    def served_on_its_day(self, metric: str) -> ServedFigure | None:
        """Quality of the lists served on the version's own day, which the version before made. If it was not
        measured: quality of the version's own lists on held-out users.
        """
        # The version before served that day's lists, in the order that its verdict decided
        figure = on_its_day(self.metrics, self.parent_gate.serves, self.day, metric)
        return figure or on_held_out(self.metrics, self.gate.serves, self.day, metric)

    def in_front(self, metric: str) -> ServedFigure | None:
        """The figure to show first: the version on all users of the next day, else the lists served on its
        day; of all users if there is such a figure.
        """
        figure = self.served(metric)
        return figure if figure and not figure.held_out else self.served_on_its_day(metric)


def quality_of(
    versions: Versions, log: Sequence[Entry], wanted: Collection[str]
) -> dict[str, VersionQuality]:
    """The measures of stored versions, by version.

    Args:
      log: all entries of the recommender's registry, oldest first.
      wanted: versions that are stored.
    """
    state = State.of(log)
    parent_of = parents(log)
    next_of = dict[str, str]()
    # The next day's run measures towers, no matter whether a refresh of them is live
    towers = {version: state.trained(version) for version in wanted}
    for version, parent in parent_of.items():
        if parent in towers.values() and parent and version not in state.pruned:
            # The nearest day; of two versions of a day, the later one.
            next_of[parent] = min(version, next_of.get(parent, version), key=version_date)
    before = {version: parent_of.get(trained) for version, trained in towers.items()}
    with_metrics = [*{*wanted, *next_of.values()}]
    with_gate = [*{*wanted, *filter(None, before.values())}]
    # Many small files, perhaps on an object store: all reads start before the first result is awaited
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        read_metrics = pool.map(DayMetrics.find, map(versions.folder, with_metrics))
        read_gates = pool.map(GateVerdict.find, map(versions.folder, with_gate))
        read_settings = pool.map(partial(_settings, versions), with_metrics)
    # A version that was pruned after the listing is left out
    metrics = {v: m or DayMetrics() for v, m in zip(with_metrics, read_metrics, strict=True)}
    gates = {v: gate or GateVerdict() for v, gate in zip(with_gate, read_gates, strict=True)}
    settings = dict(zip(with_metrics, read_settings, strict=True))
    qualities = {}
    for version in wanted:
        next_day = None
        later = next_of.get(towers[version])
        if later and metrics[later].progressive:
            next_day = NextDay(version=later, metrics=metrics[later], settings=settings[later])
        qualities[version] = VersionQuality(
            day=version_date(version),
            metrics=metrics[version],
            gate=gates[version],
            parent_gate=gates.get(before[version] or "", GateVerdict()),
            next_day=next_day,
            settings=settings[version],
        )
    return qualities


def served_on_days(
    versions: Versions, days: Collection[date], metric: str
) -> dict[date, ServedFigure]:
    """Quality of the lists that were served on each day, if it was measured.

    Args:
      days: by day, its newest version, accepted or refused.
      metric: its name with its list length, such as `recall@50`.
    """
    log = versions.log()
    pruned = State.of(log).pruned
    newest = dict[date, str]()
    for entry in log:
        judged = entry.action in ("publish", "refuse") and not entry.refreshes
        if judged and entry.version not in pruned:
            newest[version_date(entry.version)] = entry.version
    wanted = [newest[day] for day in days if day in newest]
    return {
        quality.day: figure
        for quality in quality_of(versions, log, wanted).values()
        if (figure := quality.served_on_its_day(metric))
    }


def _settings(versions: Versions, version: str) -> Mapping[str, Any]:
    with suppress(TwinspireError):
        return versions.manifest(version).settings
    return {}
