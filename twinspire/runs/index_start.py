"""The version whose index settings a day's index starts from, unless they are searched for again.
docs/decisions/0007-index.md
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date

from index_builder.registry.parents import parent_of
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import Entry, State, version_date
from twinspire.runs.day_run import DayRun
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import NO_START, Start
from twinspire_core.contracts.index_figures import IndexFigures
from twinspire_core.errors import UsageError

_SEARCH_DAYS = 28
"""After so many days the settings of an index are searched for again: others may be better now."""

_HasSameInputs = Callable[[State, str], bool | None]
"""Whether a version of the day that was rolled back was made from the same inputs as the new index;
None if that does not matter.
"""


def find_start(run: DayRun, vectors: str) -> Start:
    """The version whose index settings a day's index starts from: the parent, unless they are to be
    searched for again.

    Args:
      vectors: digest of what the stage embed made.
    """

    def has_same_inputs(state: State, version: str) -> bool | None:
        return None if version in state.refreshes else _matches(run, version, output=vectors)

    return _start(run, lambda state: parent_of(state, run.day), has_same_inputs)


def find_start_of_refresh(run: DayRun, trained: str, key: str) -> Start:
    """The same for a refresh: the settings of the version whose towers it takes, unless a version up to
    the day was rolled back. docs/decisions/0025-between-trainings.md says why.

    Args:
      run: of the day of the later catalogue.
      trained: the version that is refreshed.
    """

    def has_same_inputs(state: State, version: str) -> bool | None:
        return version in state.refreshes and _matches(run, version, key=key)

    return _start(run, lambda _: trained, has_same_inputs)


def _start(
    run: DayRun, choose: Callable[[State], str | None], has_same_inputs: _HasSameInputs
) -> Start:
    version, rolled_back = _choose_version(run.log, run.day, choose, has_same_inputs)
    if version is None:
        return NO_START
    if rolled_back:
        return Start(why=f"{rolled_back} was rolled back")
    return _settings_of(run.registry, version, run.day)


def _choose_version(
    log: Sequence[Entry],
    day: date,
    choose: Callable[[State], str | None],
    has_same_inputs: _HasSameInputs,
) -> tuple[str | None, str | None]:
    """The version that the log lets a day start from.

    A day that was rolled back and is run again on the same inputs has to give the same version, by
    the log as it was then: another one would go live.

    Args:
      day: the day that the catalogue is of.
      choose: names the version, given the state of the log.
      has_same_inputs: called for versions of the day that were rolled back.

    Returns:
      The version; and, if its settings are not trusted, the version rolled back between its day and
      the day.
    """
    state = State.of(log)
    again = {
        version: has_same_inputs(state, version)
        for version in _rolled_back(state)
        if state.corpus_date(version) == day
    }
    if any(again.values()):
        entered: dict[str, int] = {}
        for number, entry in enumerate(log):
            entered.setdefault(entry.version, number)
        # The log just before the last of them was first entered.
        newest = max(entered[version] for version, is_same in again.items() if is_same)
        state = State.of(log[:newest])
    version = choose(state)
    if version is None:
        return None, None
    # Something went wrong later, or on the day itself, whose inputs were mended since
    first = version_date(version)
    wrong = [
        other
        for other in _rolled_back(state)
        if first < state.corpus_date(other) < day or again.get(other) is False
    ]
    return version, max(wrong, default=None)


def _settings_of(registry: Registry, version: str, day: date) -> Start:
    """A version's index settings as a start, unless they were searched for long before the day."""
    # Without the file there is nothing to start from, and the settings are searched for
    figures = IndexFigures.find(registry.folder(version))
    searched = figures.tuning.searched if figures else None
    if searched is None:
        return Start(why=f"{version} does not tell when its settings were searched for")
    if (day - date.fromisoformat(searched)).days >= _SEARCH_DAYS:
        return Start(
            why=(
                f"the settings of {version} were searched for on {searched}, {_SEARCH_DAYS} days ago"
                " or more"
            )
        )
    return Start(version=version, index=figures)


def _rolled_back(state: State) -> list[str]:
    return [version for version, fate in state.fate.items() if fate == "rolled back"]


def _matches(run: DayRun, version: str, **expected: str) -> bool | None:
    """Whether the attempt that embedded a version's items (of a refresh, the refresh) has these
    fields; None if it is gone.
    """
    with suppress(UsageError, FileNotFoundError, KeyError):
        name = run.registry.manifest(version).sources["embed"]
        attempt = attempts.read(attempts.place(run.pipeline, name.removesuffix("/embed")))
        return all(getattr(attempt, field) == value for field, value in expected.items())
    return None
