"""The facts on the home page about the registry, the logs and the lists: whether the recommender is well, and
what to do if it is not. A separate thread reads them, at most every few seconds. Pages show the last reading,
so a slow store delays no page for long.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from serving.answers.live_check import Check, check_age, check_lists
from serving.http.hot_swap import Served
from serving.http.service import Service
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.features_report import FeaturesReport
from twinspire_core.display.served_figure import ServedFigure
from twinspire_core.display.table import Style
from twinspire_core.errors import in_one_line, listed

_FRESH = 5.0  # seconds until the registry is read again
# Seconds that pages wait for a reading, counted from its start; the first reading also imports libraries
_PATIENCE = 2.0
_FIRST = 10.0
_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The last reading.

    Attributes:
      at: the time of the reading; None before the first one.
      error: why the registry cannot be read now; empty if it can.
      log: all entries of the registry, oldest first.
      statuses: versions of the last days that have any, the newest day first.
      qualities: the measures of the stored versions.
      live: when each version last went live, and when another one replaced it.
      days: the lists served on each measured day, oldest first.
      chart: these days; None if there are fewer than two.
      trained: the version that was trained for the newest day; a refresh was not trained.
      anomalies: what is unusual in the data of that version, if this server can read it.
      logs: the newest complete day with logs; None if this server cannot read logs.
      snapshot: the newest snapshot of items; None if this server cannot read it.
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
        return [status for status in self.statuses if status.stored]


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
        """The last reading; waits a moment if it is time to read again.

        Args:
          version: the version that answers, whose lists are checked once.
        """
        with self._starting:
            if self._ended.is_set() and time.monotonic() >= self._next:
                self._ended.clear()
                self._begun = time.monotonic()
                # Not in the thread pool: a store that hangs would use up its threads
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
        # Facts about versions change only with the log
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
        # Imported here, because matplotlib would delay the start of the server
        from index_builder.report.quality_sections import trend_figure

        metric = self._pipeline.gate.metric
        statuses = self._registry.statuses(entries)
        chosen = best_of_days(status for status in statuses if status.stored)[-_DAYS:]
        shown = [status for status in statuses if not chosen or status.date >= chosen[0].date]
        qualities = quality_of(
            self._registry, entries, [status.version for status in shown if status.stored]
        )
        days = [day for day in trend_days(chosen, qualities, metric) if day.served]
        trained = next((status for status in shown if not status.refreshes), None)
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
    """The result of a function that reads; None if it cannot read, because a server needs access only to the
    registry.
    """
    try:
        return read()
    except Exception:
        return None


def _live_times(entries: Sequence[Entry]) -> dict[str, tuple[datetime, datetime | None]]:
    pairs = zip([None, *(entry.live for entry in entries)], entries, strict=False)
    changes = [(entry.live, entry.at) for before, entry in pairs if entry.live != before]
    ends = [*(at for _, at in changes[1:]), None]
    return {live: (at, end) for (live, at), end in zip(changes, ends, strict=False) if live}


def find_problems(
    service: Service, served: Served | None, reading: Reading, now: datetime
) -> list[Check]:
    """The problems, the most urgent first."""
    checks = [*_of_server(service, served, reading)]
    if served:
        live = served.version.id
        checks += [_age(service.pipeline, live, reading, now), *reading.lists.get(live, ())]
    checks += _of_newest_day(reading)
    return [check for check in checks if check.problem]


def _of_server(service: Service, served: Served | None, reading: Reading) -> Iterator[Check]:
    failure = service.live.failure
    if failure and failure["version"]:
        answers = f"{served.version.id} keeps answering" if served else "nothing answers"
        yield Check(
            f"{failure['version']} is live, but this server cannot load it, and {answers}:"
            f" {failure['error']}",
            "the live version cannot be loaded",
            "Go back to the version before",
            "twinspire rollback PIPELINE",
        )
    if error := reading.error or (failure and not failure["version"] and failure["error"]):
        yield Check(
            f"What this page shows may be old. The registry cannot be read: {error}",
            "the registry cannot be read",
            "See whether its folder can be reached",
            "twinspire doctor PIPELINE",
        )
    elif not (served or failure or service.live.loading):
        yield Check(
            f"No version of {service.pipeline.name} answers yet: none is live",
            "no version is live",
            "Make one",
            "twinspire run PIPELINE",
        )


def _age(pipeline: Pipeline, live: str, reading: Reading, now: datetime) -> Check:
    check = check_age(pipeline, live, now)
    days = days_without_version(reading)
    if not check.problem or not days:
        return check
    span = f"--date {days[0]}" if len(days) == 1 else f"--from {days[0]} --to {days[-1]}"
    remedy = "Its logs are there. Run the days since"
    return check._replace(remedy=remedy, command=f"twinspire run PIPELINE {span}")


def days_without_version(reading: Reading) -> list[date]:
    """The days after the newest version's, up to the newest day with logs."""
    newest, logs = reading.trained, reading.logs
    if newest is None or logs is None:
        return []
    return [newest.date + timedelta(days=n + 1) for n in range((logs - newest.date).days)]


def _of_newest_day(reading: Reading) -> Iterator[Check]:
    newest = reading.trained
    if newest and newest.status == "refused":
        yield Check(
            f"The gate refused {newest.version}: {newest.reason}",
            "the gate refused the newest day",
            "See its figures",
            f"twinspire show PIPELINE {newest.version}",
        )
    figure = reading.days[-1].served if reading.days else None
    if figure and figure.change.high is not None and figure.change.high < 0:
        yield Check(
            f"The lists served on {figure.day} were {figure.change_text}: {figure.values_text}",
            "served lists are worse than a simple list",
            "See all lists of the day",
            f"twinspire summary PIPELINE --date {figure.day}",
        )
    if newest and reading.anomalies:
        yield Check(
            f"The data of {newest.date} is unusual: {listed(reading.anomalies, 3, '; ')}",
            "the newest data is unusual",
            "See its report",
            f"twinspire report PIPELINE {newest.version} --open",
        )


def first_sentence(
    service: Service, served: Served | None, reading: Reading, problems: Sequence[Check]
) -> tuple[Style, str, str]:
    """The style, the state, and the first sentence of the page."""
    if problems:
        *names, last = [check.problem for check in problems]
        text = f"{', '.join(names)} and {last}." if names else f"{last}."
        return Style.BAD, "Needs attention:", text
    if served is None:
        text = f"No version of {service.pipeline.name} answers yet: {service.waiting()}."
        return Style.WARNING, "Starting:", text
    measured = "Its lists have not been measured yet."
    if figure := served_figure(service.pipeline, served, reading):
        users = "to held-out users of" if figure.held_out else "on"
        measured = f"Lists served {users} {day_text(figure.day)}: {figure.change_text}."
    day = day_text(served.version.manifest.date)
    return Style.GOOD, "Well:", f"the version of {day} is live. {measured}"


def served_figure(
    pipeline: Pipeline, served: Served | None, reading: Reading
) -> ServedFigure | None:
    """The figure of the lists served on the last day; before a day is measured, the live version on held-out
    users.
    """
    if reading.days:
        return reading.days[-1].served
    quality = served and reading.qualities.get(served.version.id)
    return quality.in_front(pipeline.gate.metric) if quality else None


def day_text(day: date) -> str:
    """A day: 2 Dec 2026."""
    return f"{day:%-d %b %Y}"


def moment(pipeline: Pipeline, at: datetime) -> str:
    """A time in the pipeline's zone: 2 Dec 2026, 03:10 CET."""
    return f"{at.astimezone(pipeline.zone):%-d %b %Y, %H:%M %Z}"
