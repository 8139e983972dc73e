"""Plans a run: the days that it reads, and its output for each. Days are calendar days of the pipeline's
zone.

The window of n days of a day d consists of the n days before d. An example of day d uses events of this
window, and earlier events of d itself. So training, measuring and serving use the same events.

If the parent of a day has no rows for a ranker, earlier days are replayed: users, items and tables of sources
are made as of the start of each, as if it had been run then.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from twinspire_core.config.feature_kinds import AgeFeature, CountFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.attempts import Mode
from twinspire_core.contracts.feature_schema import AT_END, AT_START, replay_folder

Scope = Mode | Literal["served"]
"""The output of a run: the examples of a day, those of the whole training window, or only the files for
serving at the end of the day.
"""

EVALUATED_DAYS = 7
"""Days on which held-out users are measured: the day and the six before it."""
REPLAYED_DAYS = 28
"""The most days that are replayed; no more than a third of the training window."""
TABLE_DAYS = 7
"""Consecutive replayed days that share the tables of sources, made at the start of the first one."""
EPOCH = date(1970, 1, 1)
MICROSECONDS_OF_A_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The days of one run, each list oldest first.

    Attributes:
      day: the day of the run.
      first: the oldest day whose events are read; `day` is the newest.
      examples: days that get examples: the day itself, or in full mode the training window.
      evaluation: days with evaluation queries.
      analysis: days whose rows the transform graph is fitted on.
      counted_from: the first analysis day whose counts are known in both modes.
      measured: days with all inputs of lists as of their start: the day itself for measuring, and the next
        day for serving.
      replay: days before the day that are replayed.
    """

    day: date
    first: date
    examples: tuple[date, ...]
    evaluation: tuple[date, ...]
    analysis: tuple[date, ...]
    counted_from: date
    measured: tuple[date, ...]
    replay: tuple[date, ...] = ()

    @property
    def corpora(self) -> tuple[date, ...]:
        """Days with a corpus as of their start."""
        return (*self.replay, *self.measured)

    @property
    def table_days(self) -> tuple[date, ...]:
        """Days with tables of sources as of their start."""
        return (*self.replay[::TABLE_DAYS], *self.measured)

    def folder(self, name: str, moment: date) -> str:
        """Folder of a table as of the start of a day."""
        if moment in self.replay:
            return f"{replay_folder(moment)}/{name}/{AT_START}"
        return f"{name}/{AT_START if moment == self.day else AT_END}"

    @property
    def read(self) -> list[date]:
        """All days whose events are read."""
        return list(_days(self.first, self.day))


def make_plan(p: Pipeline, day: date, scope: Scope, *, replays: bool = False) -> Plan:
    """The days of a run, by the windows of the pipeline file. `replays`: whether days before the day are
    replayed.
    """
    if scope == "served":
        return _served_plan(p, day)
    w = p.window
    # The same in both modes, because it decides which vocabulary days have counts, and so the graph depends
    # on it.
    back = max(
        EVALUATED_DAYS - 1 + known_days(p),
        w.history_days - 1,
        w.count_days,
        p.corpus.recent_days,
    )
    # Incremental runs make only the examples of the day, because earlier runs trained on the earlier ones.
    trained = w.train_days - 1 if scope == "full" else 0
    # The oldest example looks back as many days as the newest.
    seen_by_oldest = trained + max(w.history_days, _counted_days(p))
    replayed = min(REPLAYED_DAYS, w.train_days // 3) if replays else 0
    seen_by_replay = replayed + _days_before_a_moment(p) if replayed else 0
    return Plan(
        day=day,
        first=day - timedelta(days=max(back, seen_by_oldest, seen_by_replay)),
        examples=tuple(_days(day - timedelta(days=trained), day)),
        evaluation=tuple(_days(day - timedelta(days=EVALUATED_DAYS - 1), day)),
        analysis=tuple(_days(day - timedelta(days=w.history_days - 1), day)),
        counted_from=day - timedelta(days=back - _counted_days(p)),
        measured=(day, after(day)),
        replay=tuple(_days(day - timedelta(days=replayed), day - timedelta(days=1))),
    )


def _served_plan(p: Pipeline, day: date) -> Plan:
    """Only the windows that end with the day."""
    return Plan(
        day=day,
        first=after(day) - timedelta(days=_days_before_a_moment(p)),
        examples=(),
        evaluation=(),
        analysis=(),
        counted_from=after(day),
        measured=(after(day),),
    )


def days_to_replay(p: Pipeline, plan: Plan, logged: Collection[date]) -> tuple[date, ...]:
    """Days of a plan's replay that have logs, within the newest third of the logged training window:
    users of its first days have no history yet.
    """
    # A short log fills only part of the declared window.
    window = min(p.window.train_days, (plan.day - min(logged, default=plan.day)).days + 1)
    return tuple(
        day
        for day in plan.replay
        if day >= (plan.day - timedelta(days=window // 3)) and day in logged
    )


def _days_before_a_moment(p: Pipeline) -> int:
    """Number of days before a moment on which users, items and tables of sources depend."""
    return max(
        known_days(p),
        _counted_days(p),
        p.window.count_days,
        p.corpus.recent_days,
    )


def _counted_days(p: Pipeline) -> int:
    """Number of days before an example that its counts and ages use."""
    counts = [f.days for f in p.of_kind(CountFeature).values()]
    ages = [p.window.count_days for f in p.of_kind(AgeFeature).values() if f.column is None]
    return max(counts + ages, default=0)


def personal_days(p: Pipeline) -> int:
    """Number of days before a moment whose events the sources use; 0 if the two-tower is the only source."""
    if not p.sources.several:
        return 0
    return p.window.personal_days or p.window.history_days


def known_days(p: Pipeline) -> int:
    """Number of days before a moment in which one event makes a user known: the longest window of users."""
    return max(p.window.history_days, personal_days(p))


def number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


def date_of(number: int) -> date:
    """The day of such a number."""
    return EPOCH + timedelta(days=number)


def start_of(day: date, zone: ZoneInfo) -> int:
    """The instant at which a day begins, in microseconds since 1970.

    If a clock change skips midnight, the day begins with the change. Python reads a skipped time with the
    offset before the change, which gives that instant.
    """
    # Via UTC: the difference of two times of one zone would ignore its clock changes.
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    since_1970 = midnight.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since_1970 // timedelta(microseconds=1)


def after(day: date) -> date:
    """The next day."""
    return day + timedelta(days=1)


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first = after(first)
