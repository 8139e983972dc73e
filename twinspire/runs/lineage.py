"""Days that nobody learned from. Pure: what it is not given, it asks functions for.

docs/decisions/0002-order-and-airflow.md
"""

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import groupby

from index_builder.registry.version_log import State, version_date
from twinspire_core.contracts.stage_context import Gap

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
