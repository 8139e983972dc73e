"""What the home page says of the registry, the logs and the lists. A thread of its own reads it, at most every few
seconds, so that a slow store holds up no page for long: pages show what was read last.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from threading import Event, Lock, Thread
from typing import Any

from beam_jobs.ingest.day_files import SnapshotDays
from index_builder.registry.quality_history import VersionQuality, quality_of
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import Entry
from index_builder.registry.versions import Status
from index_builder.report.facts import Day, Figure, best_of_days, trend_days
from serving.answers.live_check import Check, check_lists
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.features_report import FeaturesReport
from twinspire_core.errors import in_one_line

_FRESH = 5.0  # seconds until the registry is read again
# Seconds that pages wait for a reading, counted from its begin; the first one also imports libraries
_PATIENCE = 2.0
_FIRST = 10.0
_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read last.

    Attributes:
      at: the time of the reading; None before the first one.
      error: why the registry cannot be read now; empty if it can.
      log: all entries of the registry, oldest first.
      statuses: versions of the last days that have any, the newest day first.
      qualities: what was measured of the stored ones.
      live: when each version went live the last time, and when another one did.
      days: what was served on each day that was measured, oldest first.
      chart: these days; None if there are fewer than two.
      trained: the version that was trained for the newest day; a refresh was not trained.
      anomalies: what is unusual in the data of that version, if this server sees that.
      logs: the newest day with logs that is over; None if this server sees none.
      snapshot: the newest snapshot of items, likewise.
      lists: checks of the lists of a version, by its id.
    """

    at: datetime | None = None
    error: str = ""
    log: Sequence[Entry] = ()
    statuses: Sequence[Status] = ()
    qualities: Mapping[str, VersionQuality] = field(default_factory=dict)
    live: Mapping[str, tuple[datetime, datetime | None]] = field(default_factory=dict)
    days: Sequence[Day] = ()
    chart: Figure | None = None
    trained: Status | None = None
    anomalies: Sequence[str] = ()
    logs: date | None = None
    snapshot: date | None = None
    lists: Mapping[str, Sequence[Check]] = field(default_factory=dict)

    @property
    def stored(self) -> list[Status]:
        """The versions whose files are there."""
        return [one for one in self.statuses if one.stored]


class RegistryReader:
    """Reads in a thread, one reading at a time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._registry = Registry(pipeline.registry.root, pipeline.name)
        self._latest = Reading()
        self._starting = Lock()
        self._ended = Event()
        self._ended.set()
        self._begun = self._next = 0.0

    def latest(self, version: Version | None) -> Reading:
        """What was read last; waits a moment if it is time to read again.

        Args:
          version: the version that answers, whose lists are checked once.
        """
        with self._starting:
            if self._ended.is_set() and time.monotonic() >= self._next:
                self._ended.clear()
                self._begun = time.monotonic()
                # Not in the pool, whose threads a store that hangs would use up
                Thread(target=self._read, args=(version,), daemon=True).start()
        end = self._begun + (_PATIENCE if self._latest.at else _FIRST)
        if self._ended.wait(max(0.0, end - time.monotonic())):
            return self._latest
        error = f"it has not answered for {time.monotonic() - self._begun:.0f} s"
        return replace(self._latest, error=error)

    def _read(self, version: Version | None) -> None:
        try:
            self._latest = self._newer(self._latest, version)
        except Exception as e:  # a broken store must not hide the live version
            self._latest = replace(self._latest, error=in_one_line(e))
        finally:
            self._next = time.monotonic() + _FRESH
            self._ended.set()

    def _newer(self, before: Reading, version: Version | None) -> Reading:
        entries = self._registry.log(before.log)
        # All that is read of versions changes with the log only
        newer = before
        if before.at is None or len(entries) > len(before.log):
            newer = self._read_versions(entries)
        lists = before.lists
        if version and version.id not in lists:
            lists = {version.id: check_lists(version)}
        today = datetime.now(self._pipeline.zone).date()
        return replace(
            newer,
            at=datetime.now(UTC),
            error="",
            lists=lists,
            logs=_if_seen(
                lambda: SnapshotDays(self._pipeline, "events").at(today - timedelta(days=1))
            ),
            snapshot=_if_seen(lambda: SnapshotDays(self._pipeline, "items").at(today)),
        )

    def _read_versions(self, entries: Sequence[Entry]) -> Reading:
        # Here, because matplotlib would delay the start of the server
        from index_builder.report.quality_sections import trend_figure

        metric = self._pipeline.gate.metric
        statuses = self._registry.statuses(entries)
        chosen = best_of_days(one for one in statuses if one.stored)[-_DAYS:]
        shown = [one for one in statuses if not chosen or one.date >= chosen[0].date]
        qualities = quality_of(
            self._registry, entries, [one.version for one in shown if one.stored]
        )
        days = [day for day in trend_days(chosen, qualities, metric) if day.served]
        trained = next((one for one in shown if not one.refreshes), None)
        unusual = trained and _if_seen(lambda: self._anomalies(trained.version))
        return Reading(
            log=entries,
            statuses=shown,
            qualities=qualities,
            live=_live_times(entries),
            days=days,
            chart=trend_figure(days, metric) if len(days) > 1 else None,
            trained=trained,
            anomalies=unusual or (),
        )

    def _anomalies(self, version: str) -> Sequence[str]:
        features = self._registry.manifest(version).sources["features"]
        report = FeaturesReport.read(attempts.place(self._pipeline, features))
        return report.statistics.anomalies if report.statistics else ()


def _if_seen(read: Callable[[], Any]) -> Any:
    """What a function reads; None if it cannot, because a server needs to see nothing but the registry."""
    try:
        return read()
    except Exception:
        return None


def _live_times(entries: Sequence[Entry]) -> dict[str, tuple[datetime, datetime | None]]:
    pairs = zip([None, *(entry.live for entry in entries)], entries, strict=False)
    changes = [(entry.live, entry.at) for before, entry in pairs if entry.live != before]
    ends = [*(at for _, at in changes[1:]), None]
    return {live: (at, end) for (live, at), end in zip(changes, ends, strict=False) if live}
