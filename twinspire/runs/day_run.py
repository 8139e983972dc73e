"""A run of one day: the earlier versions that it starts from, and the lease that later days wait for.

docs/decisions/0007-index.md says which version's index settings a day's index starts from.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import cached_property
from itertools import groupby

from index_builder.registry.parents import choose_best, parent_of, standings
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import Entry, State, version_date
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, version_manifest
from twinspire_core.contracts.attempts import NO_START, BestAccepted, Gap, Parent, Start
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.version_manifest import IndexFigures

# After this many days, the settings of an index are searched again, because others may be better by then
_SEARCH_DAYS = 28


class DayRun:
    """A run of one day, for one stage or for all of them.

    All questions about versions are answered from one reading of the registry's log, so that the
    answers are consistent. Other processes may publish meanwhile. So `read_log` is called again before
    a stage is planned (after it has waited for earlier days) and after a version was published.

    Attributes:
      lease: name of the run that later days wait for; None if no day waits for it.
      gives_way: whether the run ends instead of waiting when it is an earlier day's turn, because a
        scheduler starts it again.
      log_digests: digests of the log files that were read so far, by URI.
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
          log: the registry's log, if it was read before. By default the first question reads it.
        """
        self.pipeline = pipeline
        self.day = day
        self.lease = lease
        self.gives_way = gives_way
        self.registry = Registry(pipeline.registry.root, pipeline.name)
        self.log_digests: dict[str, str] = {}
        if log is not None:
            self.log = log

    @cached_property
    def log(self) -> Sequence[Entry]:
        """The registry's log, as it was last read."""
        return self.registry.log()

    @cached_property
    def state(self) -> State:
        """The state that follows from that log."""
        return State.of(self.log)

    def of_day(self, day: date) -> "DayRun":
        """A run of another day, without a lease, from the same reading of the log."""
        other = DayRun(self.pipeline, day, log=self.log)
        other.log_digests = self.log_digests
        return other

    def read_log(self) -> None:
        """Reads the entries that were added since the log was last read."""
        # Entries never change, so those that were read before are kept
        self.log = self.registry.log(self.__dict__.get("log", ()))
        self.state = State.of(self.log)

    def parent(self) -> Parent | None:
        """The version that the day's training continues from (index_builder/registry/parents.py)."""
        version = parent_of(self.state, self.day)
        if version is None:
            return None
        described = self.registry.manifest(version)
        return Parent(
            day=described.date,
            version=version,
            home=self.registry.folder(version),
            train=attempts.place(self.pipeline, described.sources["train"]),
            measure=attempts.place(self.pipeline, described.sources["measure"]),
        )

    def best(self) -> BestAccepted | None:
        """The best accepted version before the day; None without a parent, or if the parent's measures
        are of lists that do not count now (serving.exclude_seen was changed).
        """
        parent = parent_of(self.state, self.day)
        if parent is None:
            return None
        metrics = DayMetrics.find(self.registry.folder(parent))
        # Differences of other lists would add up with those of today's as if they were the same.
        if metrics is None or metrics.counted_lists != self.pipeline.serving.counted_lists:
            return None
        chosen = choose_best(
            standings(metrics.line, parent, self.pipeline.gate.metric),
            self.state,
            self.day,
            lambda version: storage.exists(self.registry.place(version, version_manifest.FILE)),
        )
        return BestAccepted(
            version=chosen.version,
            home=self.registry.folder(chosen.version),
            ahead=chosen.ahead,
            gone=chosen.gone,
        )

    def is_kept(self, version: str) -> bool:
        """Whether the registry still has a version."""
        return version in self.state.last and version not in self.state.pruned

    def addresses(self, version: str) -> dict[str, str]:
        """The `folder` of a version's files, and the address of its `report` for a browser."""
        addresses = {"folder": self.registry.folder(version)}
        report = self.registry.place(version, version_manifest.REPORT)
        if server := self.pipeline.registry.server:
            addresses["report"] = f"{server.rstrip('/')}/report?version={version}"
        elif report.startswith("gs://"):
            addresses["report"] = f"https://storage.cloud.google.com/{report.removeprefix('gs://')}"
        # Others have no address for a browser: Airflow's page must not link to a file of this machine
        return addresses

    def gaps_since(self, parent: date | None) -> list[Gap]:
        """Days with logs between a parent's day and the day, without an accepted version."""
        if parent is None:
            return []
        from beam_jobs.ingest import day_files

        accepted = {version_date(version) for version in self.state.accepted}
        between = (parent + timedelta(days=n) for n in range(1, (self.day - parent).days))
        days = [
            day
            for day in between
            if day not in accepted and day_files.files(self.pipeline, "events", day)
        ]
        # For successive days, the date minus the position in the list is the same number
        numbered = groupby(enumerate(days), lambda pair: pair[1].toordinal() - pair[0])
        stretches = ([day for _, day in stretch] for _, stretch in numbered)
        return [Gap(stretch[0], stretch[-1]) for stretch in stretches]


def find_start(run: DayRun, version: str | None) -> Start:
    """The version whose index settings a day's index starts from, unless they are to be searched for
    again.

    Args:
      version: the day's parent, or the version that a refresh takes its towers from.
    """
    if version is None:
        return NO_START
    figures = IndexFigures.find(run.registry.folder(version))
    searched = figures.tuning.searched if figures else None
    if searched is None:
        return Start(why=f"{version} does not say when its index settings were searched for")
    if (run.day - date.fromisoformat(searched)).days >= _SEARCH_DAYS:
        why = (
            f"the index settings of {version} are from {searched}, at least {_SEARCH_DAYS} days ago"
        )
        return Start(why=why)
    return Start(version=version, index=figures)
