"""Which earlier versions a day builds on: its parent, and the best accepted version before it.

The *parent* is the newest accepted version of an earlier day. The day's training starts from it, and the gate
compares the day's version with it.

The gate also compares the day's version with the *best* one, so that losses too small to be refused do not
add up. Along the line of parents each version was compared with its baseline, the version before it, on users
that neither had seen. The running sum of these paired differences, in the gate's measure, is the height of a
version. It does not depend on how easy the days were:

    S(first) = 0,   S(version) = S(its baseline) + mean paired difference from its baseline

The best is the highest version of the 30 days before the day; of equals, the newest. Days count from the day,
not from today, so a day that is run again gets the same best version. All of it is in the parent's
metrics.json (model/evaluation/version_line.py), read once.

docs/decisions/0019-gate.md
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import accumulate
from typing import NamedTuple

from index_builder.registry.version_log import Entry, State, version_date
from twinspire_core.contracts.day_metrics import MEMORY_DAYS, MeasuredDay


def parent_of(state: State, day: date) -> str | None:
    """The parent of a day: the newest accepted version of an earlier one; of two versions of the same
    day, the one accepted later.

    A refresh is no parent while the trained version is stored: training continues from trained versions,
    whatever happens to the catalogue.
    """
    earlier = [version for version in state.by_day() if version_date(version) < day]
    if not earlier:
        return None
    of_day = [v for v in earlier if version_date(v) == version_date(earlier[-1])]
    trained = [version for version in of_day if version not in state.refreshes]
    return (trained or of_day)[-1]


def parents(log: Iterable[Entry]) -> dict[str, str | None]:
    """By trained version, the parent of its day when it was published.

    A manifest names a parent only if the version's training started from it.
    """
    state = State()
    parent_by_version = dict[str, str | None]()
    for entry in log:
        judged = entry.action in ("publish", "refuse") and not entry.refreshes
        if judged and entry.version not in parent_by_version:
            parent_by_version[entry.version] = parent_of(state, version_date(entry.version))
        state.take(entry)
    return parent_by_version


class Standing(NamedTuple):
    """The height of a version in its line of parents.

    Attributes:
      version: its id.
      height: the running sum up to it, in units of the measure; 0 at the oldest of the line.
    """

    version: str
    height: float


class Choice(NamedTuple):
    """The best accepted version.

    Attributes:
      version: its id.
      ahead: its height above the parent.
      gone: higher versions whose files are no longer stored.
    """

    version: str
    ahead: float
    gone: tuple[str, ...]


def standings(line: Mapping[str, MeasuredDay], parent: str, metric: str) -> list[Standing]:
    """The versions of a line, oldest first, the parent last.

    Args:
      line: by day, as the parent's metrics.json stores it.
      metric: the gate's measure. A day on which it was not measured counts as no difference.

    Example:
      >>> day = MeasuredDay(against="a", differences={"recall@50": -0.25})
      >>> standings({"2024-03-02": day}, "b", "recall@50")
      [Standing(version='a', height=0.0), Standing(version='b', height=-0.25)]
    """
    days = [line[day] for day in sorted(line)]
    # A version's id is in the next day's record, as its baseline. The parent's id is an argument
    versions = [*(day.against for day in days), parent]
    differences = (day.differences.get(metric, 0.0) for day in days)
    return list(map(Standing, versions, accumulate(differences, initial=0.0)))


def choose_best(
    line: Sequence[Standing], state: State, day: date, is_stored: Callable[[str], bool]
) -> Choice:
    """The best version of a line.

    Args:
      line: the result of `standings`: the oldest version first, the parent last.
      state: the state of the registry's log.
      day: versions of this day and later days do not count.
      is_stored: says whether a version's files exist. It is called for few versions, because it costs a
        request.
    """
    parent = line[-1]
    gone = list[str]()
    # Sorting is stable, so that of equals the newest stays first
    for version, height in sorted(
        _eligible(line, state, day), key=lambda standing: -standing.height
    ):
        if version == parent.version:
            break
        if version not in state.pruned and is_stored(version):
            return Choice(version, height - parent.height, tuple(gone))
        gone.append(version)
    return Choice(parent.version, 0.0, tuple(gone))


def _eligible(line: Sequence[Standing], state: State, day: date) -> list[Standing]:
    """Versions of the line that may be the best, newest first; the parent always."""
    oldest = day - timedelta(days=MEMORY_DAYS)
    eligible = list[Standing]()
    for standing in reversed(line):
        accepted = state.fate.get(standing.version) == "accepted"
        in_memory = oldest <= version_date(standing.version) < day
        if (accepted and in_memory) or standing is line[-1]:
            eligible.append(standing)
        # Whoever overruled the gate accepted the losses before, so only later losses count
        if standing.version in state.overruled:
            break
    return eligible
