"""A run of one day: what the registry's log says of the day, and the lease that later days wait
for; and the days that nobody learned from.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import groupby, pairwise

from index_builder.registry.parents import Standing, choose_best, parent_of, standings
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import Entry, State, version_date
from twinspire.runs import run_leases
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import artifact, attempts
from twinspire_core.contracts.attempts import BestAccepted, Gap, Parent
from twinspire_core.contracts.day_metrics import DayMetrics

_DAY = timedelta(days=1)


def find_gaps(
    state: State, parent: date | None, day: date, *, has_logs: Callable[[date], bool]
) -> list[Gap]:
    """Days with logs between a parent's day and a day, without an accepted version."""
    if parent is None:
        return []
    accepted = {version_date(version) for version in state.accepted}
    between = (parent + _DAY * n for n in range(1, (day - parent).days))
    return stretches(one for one in between if one not in accepted and has_logs(one))


def stretches(days: Iterable[date]) -> list[Gap]:
    """Days, oldest first, as unbroken stretches."""
    # Within a stretch a day's number and its place in the line differ by the same.
    numbered = groupby(enumerate(days), lambda one: one[1].toordinal() - one[0])
    together = ([day for _, day in stretch] for _, stretch in numbered)
    return [Gap(days[0], days[-1]) for days in together]


class DayRun:
    """A run of one day, for one stage or for all of them.

    All that is asked of the registry is answered from one reading of its log, so that the answers
    fit each other. Others publish meanwhile, so `read_log` is called again where the newest state
    counts: before a stage is planned (after it waited for its turn), and after a version was
    published. Entries never change: only those that came since are read.

    Attributes:
      pipeline: the parsed pipeline file.
      day: the day.
      lease: name of the run that later days wait for; None if none does.
      gives_way: whether the run, when it is an earlier day's turn, ends to be asked again, as a
        scheduler does, instead of waiting.
      registry: where its versions are.
      log_digests: of files of logs, by their place, as far as they have been read.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        day: date,
        lease: str | None = None,
        log: Sequence[Entry] | None = None,
        *,
        gives_way: bool = False,
    ) -> None:
        """Reads nothing yet.

        Args:
          pipeline: the parsed pipeline file.
          lease: name of the run.
          log: the registry's log, if it has been read; else the first question reads it.
          gives_way: whether it ends, to be asked again, while it is an earlier day's turn.
        """
        self.pipeline = pipeline
        self.day = day
        self.lease = lease
        self.gives_way = gives_way
        self.registry = Registry(pipeline.registry.root, pipeline.name)
        self.log_digests: dict[str, str] = {}
        if log is not None:
            self.log = log
        self._line: tuple[str, list[Standing]] | None = None

    @cached_property
    def log(self) -> Sequence[Entry]:
        """The registry's log, as it was last read."""
        return self.registry.log()

    @cached_property
    def state(self) -> State:
        """What that log amounts to."""
        return State.of(self.log)

    def of_day(self, day: date) -> "DayRun":
        """A run of another day, which no later one waits for, by the same reading of the log."""
        other = DayRun(self.pipeline, day, log=self.log)
        other.log_digests = self.log_digests
        return other

    def read_log(self) -> None:
        """Reads what was logged since the log was last read."""
        self.log = self.registry.log(self.__dict__.get("log", ()))
        self.state = State.of(self.log)

    def parent(self) -> Parent | None:
        """The newest version before the day that the gate accepted and that was not rolled back."""
        version = parent_of(self.state, self.day)
        if version is None:
            return None
        manifest = self.registry.manifest(version)
        return Parent(
            day=manifest.date,
            version=version,
            home=self.registry.folder(version),
            train=attempts.place(self.pipeline, manifest.sources["train"]),
            measure=attempts.place(self.pipeline, manifest.sources["measure"]),
        )

    def best(self) -> BestAccepted | None:
        """The best accepted version before the day; None without a parent, or where the parent
        remembers no line of such lists as count now.
        """
        parent = parent_of(self.state, self.day)
        if parent is None:
            return None
        if self._line is None or self._line[0] != parent:
            self._line = (parent, self._read_line(parent))
        line = self._line[1]
        if not line:
            return None
        chosen = choose_best(line, self.state, self.day, self._is_stored)
        return BestAccepted(
            version=chosen.version,
            home=self.registry.folder(chosen.version),
            ahead=chosen.ahead,
            gone=chosen.gone,
        )

    def _read_line(self, parent: str) -> list[Standing]:
        metrics = DayMetrics.find(self.registry.folder(parent))
        if metrics is None or metrics.counted_lists != self.pipeline.serving.counted_lists:
            return []
        return standings(metrics.line, parent, self.pipeline.gate.metric)

    def _is_stored(self, version: str) -> bool:
        return storage.exists(self.registry.place(version, artifact.FILE))

    def is_live(self, version: str) -> bool:
        """Whether a version is live; a stage that is already done tells of what was live then."""
        return self.state.live == version

    def is_kept(self, version: str) -> bool:
        """Whether the registry still has a version: one that was pruned is to be published
        again.
        """
        return version in self.state.last and version not in self.state.pruned

    def gaps_since(self, parent: date | None) -> list[Gap]:
        """Days with logs between a parent's day and the day, without an accepted version."""
        return find_gaps(self.state, parent, self.day, has_logs=self._has_logs)

    def acquire_lease(self) -> None:
        """Records that the run is under way, for later days to wait."""
        if self.lease:
            run_leases.acquire_day(self.pipeline, self.day, self.lease)

    def release_lease(self, outcome: str, reason: str | None = None) -> None:
        """Records how the run ended, and why where something went wrong."""
        if self.lease:
            run_leases.release_day(self.pipeline, self.day, self.lease, outcome, reason)

    def note_failed_try(self, reason: str) -> None:
        """Records why a stage failed that a scheduler may try again."""
        if self.lease:
            run_leases.note_failed_try(self.pipeline, self.day, self.lease, reason)

    def _has_logs(self, day: date) -> bool:
        from beam_jobs.ingest import day_files

        return bool(day_files.files(self.pipeline, "events", day))


def versions_in_use(
    pipeline: Pipeline, kept: Collection[str], today: date, since: datetime
) -> set[str]:
    """Versions that others are measured against: the best accepted ones before the day after the
    newest accepted one, before today, and before days that are under way or may come next, as old ones
    that are filled in; those that such days go on from; and those that kept versions were measured
    against, whose days would else not be found done.

    Args:
      kept: versions that stay in any case.
      since: when old days that were run may have others to come.
    """
    run = DayRun(pipeline, today)
    measured = (DayMetrics.find(run.registry.folder(version)) for version in kept)
    needed = {one.best.version for one in measured if one and one.best and one.best.measures}
    newest = parent_of(run.state, date.max)
    if newest:
        filled_in = {*_days_under_way(pipeline), *_days_to_come(run.state, since)}
        days = {version_date(newest) + timedelta(days=1), today, *filled_in}
        found = (run.of_day(day).best() for day in days)
        needed |= {best.version for best in found if best}
        parents = (parent_of(run.state, day) for day in filled_in)
        needed |= {version for version in parents if version}
    return needed


def _days_under_way(pipeline: Pipeline) -> list[date]:
    days = attempts.days(pipeline)
    return [day for day in days if run_leases.state(pipeline, day) == run_leases.OPEN]


def _days_to_come(state: State, since: datetime) -> Iterator[date]:
    """Days after old ones that were run since then, where no later day has been run after them: between
    two of its days nothing of a backfill is under way.
    """
    trained = [version for version in state.by_day() if version not in state.refreshes]
    place = {version: n for n, version in enumerate(state.accepted)}
    for version, later in pairwise(trained):
        if place[version] > place[later] and state.last[version].at >= since:
            yield version_date(version) + timedelta(days=1)
