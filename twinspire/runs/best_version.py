"""The best accepted version before a day: the one that its candidate is measured against besides
its baseline, so that losses too small to be refused do not add up unseen.

Along the line of parents each version was compared with its baseline, the version before it, on
users whom neither had seen. The running sum of these paired differences, in the gate's measure,
tells how high each version of the line stands, whatever the days were like:

    S(first) = 0,   S(version) = S(its baseline) + mean paired difference from its baseline

The best is the one that stands highest among those of the 30 days before the day, the newest of
equals. Days count from the day, not from the clock, so that a day that is run again has the same.
All of it is in the parent's metrics.json (model/evaluation/version_line.py), read once.

docs/decisions/0019-gate.md
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from itertools import accumulate
from typing import NamedTuple

from index_builder.registry.version_log import State, version_date
from twinspire_core.contracts.day_metrics import MEMORY_DAYS, MeasuredDay


class Standing(NamedTuple):
    """How high a version of a line stands.

    Attributes:
      version: its id.
      height: the running sum at it, in units of the measure; 0 at the oldest that is remembered.
    """

    version: str
    height: float


class Choice(NamedTuple):
    """The best accepted version.

    Attributes:
      version: its id.
      ahead: by how much it stands higher than the parent.
      gone: versions that stand higher still, and whose files are no longer there.
    """

    version: str
    ahead: float
    gone: tuple[str, ...]


def standings(line: Mapping[str, MeasuredDay], parent: str, metric: str) -> list[Standing]:
    """The versions of a line, oldest first, the parent last.

    Args:
      line: of the parent's metrics.json.
      metric: the gate's measure. What was not measured of a day counts as no difference.

    Example:
      >>> day = MeasuredDay(against="a", differences={"recall@50": -0.25})
      >>> standings({"2024-03-02": day}, "b", "recall@50")
      [Standing(version='a', height=0.0), Standing(version='b', height=-0.25)]
    """
    days = [line[day] for day in sorted(line)]
    differences = [day.differences.get(metric, 0.0) for day in days]
    # A version's id is known when the next one names it as its baseline; the parent's, from the log
    versions = [*(day.against for day in days), parent]
    heights = accumulate(differences, initial=0.0)
    return [Standing(*one) for one in zip(versions, heights, strict=True)]


def choose_best(
    line: Sequence[Standing], state: State, day: date, is_stored: Callable[[str], bool]
) -> Choice:
    """The best of a line. Pure, but for what it asks.

    Args:
      line: the result of `standings`: the oldest version first, the parent last.
      state: what the registry's log amounts to.
      day: the day; it and what comes after it count for nothing.
      is_stored: whether a version's files are there; asked of few.
    """
    parent = line[-1]
    gone = list[str]()
    for one in sorted(_eligible(line, state, day), key=lambda one: -one.height):
        if one.version == parent.version:
            break
        if one.version not in state.pruned and is_stored(one.version):
            return Choice(one.version, one.height - parent.height, tuple(gone))
        gone.append(one.version)
    return Choice(parent.version, 0.0, tuple(gone))


def _eligible(line: Sequence[Standing], state: State, day: date) -> list[Standing]:
    """Versions of the line that may be the best, newest first; the parent always."""
    oldest = day - timedelta(days=MEMORY_DAYS)
    eligible = list[Standing]()
    for one in reversed(line):
        is_parent = one is line[-1]
        accepted = state.fate.get(one.version) == "accepted"
        if is_parent or (accepted and oldest <= version_date(one.version) < day):
            eligible.append(one)
        # Whoever overruled the gate put up with the loss: the memory begins again with that version
        if one.version in state.overruled:
            break
    return eligible
