"""Which days learned from which. Pure: what it is not given, it asks functions for.

docs/decisions/0002-order-and-airflow.md
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from index_builder.registry.version_log import State, version_date
from twinspire_core.contracts.stage_context import Gap

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A day among the others, as the registry's log has them now.

    Attributes:
      gaps: days with logs between its parent and it that have no accepted version.
      filled: days between them that got one since; its own version has not inherited from them.
      descendants: of a day that was filled in, the later days that had run before and have not
        inherited from it.
      later: the day, and all days to the newest that has an accepted version.
    """

    gaps: list[Gap]
    filled: list[Gap]
    descendants: list[Gap]
    later: Gap


def find_lineage(
    state: State,
    day: date,
    parent: date | None,
    *,
    has_logs: Callable[[date], bool],
    parent_of: Callable[[str], str | None],
) -> Lineage:
    """Looks at the days from a day's parent to the newest one.

    Args:
      state: what the registry's log amounts to.
      day: the day.
      parent: the day that its training went on from; None if it was trained from scratch.
      has_logs: whether a day has logs.
      parent_of: the version that a version's training went on from.
    """
    accepted = accepted_days(state)
    # Nobody can have failed to inherit from a day that has nothing to give.
    descendants = _days_past(state, day, parent_of) if day in accepted else []
    return Lineage(
        gaps=find_gaps(state, parent, day, has_logs=has_logs),
        filled=stretches(between for between in _between(parent, day) if between in accepted),
        descendants=stretches(descendants),
        later=Gap(day, max([*accepted, day])),
    )


def find_gaps(
    state: State, parent: date | None, day: date, *, has_logs: Callable[[date], bool]
) -> list[Gap]:
    """Days with logs between a parent's day and a day, without an accepted version."""
    accepted = accepted_days(state)
    missing = (between for between in _between(parent, day) if between not in accepted)
    return stretches(between for between in missing if has_logs(between))


def accepted_days(state: State) -> set[date]:
    """Days that have an accepted version."""
    return {version_date(version) for version in state.accepted}


def stretches(days: Iterable[date]) -> list[Gap]:
    """Days, oldest first, as unbroken stretches."""
    # Within a stretch a day's number and its place in the line differ by the same.
    numbered = groupby(enumerate(days), lambda one: one[1].toordinal() - one[0])
    together = ([day for _, day in stretch] for _, stretch in numbered)
    return [Gap(days[0], days[-1]) for days in together]


def _between(parent: date | None, day: date) -> list[date]:
    if parent is None:
        return []
    return [parent + _DAY * n for n in range(1, (day - parent).days)]


def _days_past(state: State, day: date, parent_of: Callable[[str], str | None]) -> list[date]:
    """Later days whose line of accepted versions passes a day by; those trained from scratch have
    no line.
    """
    later = [version for version in state.by_day() if version_date(version) > day]
    passing: set[str] = set()
    for version in later:  # oldest first, so that parents come before their children
        parent = parent_of(version)
        if parent and (version_date(parent) < day or parent in passing):
            passing.add(version)
    # Of a day's versions only the newest counts: later days go on from that one.
    newest = {version_date(version): version for version in later}
    return [d for d, version in newest.items() if version in passing]
