"""What the registry's log makes of a day: its parent, what became of its version, which days it did
not learn from.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta

from index_builder.registry.registry import Registry
from index_builder.registry.version_log import State, version_date
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.contracts.index_figures import IndexFigures
from twinspire_core.contracts.stage_context import NOBODY, Gap, Parent, Start
from twinspire_core.errors import BadData, UsageError

SEARCH_DAYS = 28
"""After so many days the settings of an index are searched for anew: what was best may not be any
more.
"""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A day among the others, as the registry's log has them now.

    Attributes:
      gaps: days with logs between its parent and it that have no accepted version.
      filled: days between them that got one since; its own version has not inherited from them.
      heirs: of a day that was filled in, the later days that had run before and have not inherited
        from it.
      later: the day, and all days to the newest that has an accepted version.
    """

    gaps: list[Gap]
    filled: list[Gap]
    heirs: list[Gap]
    later: Gap


def find_parent(pipeline: Pipeline, day: date) -> Parent | None:
    """The newest version before `day` that the gate accepted and that was not rolled back."""
    manifest = _registry(pipeline).accepted_before(day)
    if manifest is None:
        return None
    return Parent(
        day=manifest.date,
        version=manifest.version,
        home=storage.join(pipeline.registry.root, pipeline.name, "versions", manifest.version),
        train=attempts.place(pipeline, manifest.sources["train"]),
    )


def find_start(pipeline: Pipeline, day: date, vectors: str) -> Start:
    """The version whose index settings a day's index starts from: the parent, unless they are to be
    searched for anew.

    Args:
      pipeline: whose.
      day: the day.
      vectors: digest of what the stage embed made.
    """

    def again(state: State, version: str) -> bool | None:
        made = None if version in state.refreshes else _made(pipeline, version)
        return made.output == vectors if made else None

    return _start(pipeline, day, lambda state: state.accepted_before(day), again)


def find_start_of_refresh(pipeline: Pipeline, trained: str, day: date, key: str) -> Start:
    """The same for a refresh: its version's settings, unless a version up to the day was rolled
    back.

    Args:
      pipeline: whose.
      trained: the version that is refreshed.
      day: of the later catalogue.
      key: of the refresh.
    """

    def again(state: State, version: str) -> bool | None:
        made = _made(pipeline, version) if version in state.refreshes else None
        return made.key == key if made else None if version in state.refreshes else False

    return _start(pipeline, day, lambda _: trained, again)


def _start(
    pipeline: Pipeline,
    day: date,
    choose: Callable[[State], str | None],
    again: Callable[[State, str], bool | None],
) -> Start:
    """The settings of the version chosen by the log, but none if one between it and the day was
    rolled back.

    What was rolled back, and is run again on the same inputs, is made as it was, by the log as it
    was then: it must not become another version and go live.

    Args:
      pipeline: whose.
      day: of the catalogue.
      choose: the version.
      again: whether a version of the day that was rolled back had the same inputs; None where that
        does not matter.
    """
    log = _registry(pipeline).log()
    state = State.of(log)
    back = [version for version, fate in state.fate.items() if fate == "rolled back"]
    own = {version: again(state, version) for version in back if state.corpus_date(version) == day}
    if same := [version for version, is_same in own.items() if is_same]:
        entered = {entry.version: number for number, entry in reversed([*enumerate(log)])}
        state = State.of(log[: max(entered[version] for version in same)])
    version = choose(state)
    if version is None:
        return NOBODY
    wrong = [
        v
        for v, fate in state.fate.items()
        if fate == "rolled back"
        and (version_date(version) < state.corpus_date(v) < day or own.get(v) is False)
    ]
    return (
        Start(why=f"{max(wrong)} was rolled back") if wrong else settings_of(pipeline, version, day)
    )


def _made(pipeline: Pipeline, version: str) -> Attempt | None:
    """The attempt that embedded a version's items: of a refresh, the refresh. None if it is
    gone.
    """
    with suppress(UsageError, FileNotFoundError, KeyError):
        name = _registry(pipeline).manifest(version).sources["embed"]
        return attempts.read(attempts.place(pipeline, name.removesuffix("/embed")))
    return None


def settings_of(pipeline: Pipeline, version: str, day: date) -> Start:
    """A version's index settings as a start, unless they were searched for long before the day."""
    # Without the file there is nothing to start from, which is no reason not to go on
    figures = IndexFigures.find(_registry(pipeline).folder(version))
    searched = figures.tuning.searched if figures and figures.tuning else None
    if searched is None:
        return Start(why=f"{version} does not tell when its settings were searched for")
    if (day - date.fromisoformat(searched)).days >= SEARCH_DAYS:
        return Start(
            why=(
                f"the settings of {version} were searched for on {searched}, {SEARCH_DAYS} days ago"
                " or more"
            )
        )
    return Start(version=version, index=figures)


def is_live(pipeline: Pipeline, version: str) -> bool:
    """Whether it is live now: a stage that is already done may tell of what was live when it
    ran.
    """
    return _registry(pipeline).live() == version


def is_kept(pipeline: Pipeline, version: str) -> bool:
    """Whether the registry still has it: one that was pruned since is to be published again."""
    state = _registry(pipeline).state()
    return version in state.last and version not in state.pruned


def lineage(pipeline: Pipeline, day: date) -> Lineage:
    """Looks at the version that the day's training started from; where it has not been trained, at
    its parent-to-be.
    """
    registry = _registry(pipeline)
    accepted = sorted({version_date(version) for version in registry.accepted()})
    trained = attempts.latest(pipeline, day, "train")
    if trained is None:
        parent = max((d for d in accepted if d < day), default=None)
    else:  # from scratch, a day learns from all days of its window
        parent = (
            version_date(trained.parent)
            if trained.parent and trained.mode == "incremental"
            else None
        )
    between = _between(parent, day)
    return Lineage(
        gaps=missing(pipeline, parent, day),
        filled=stretches(d for d in between if d in accepted),
        heirs=stretches(_descendants(registry, day)) if day in accepted else [],
        later=Gap(day, max([*accepted, day])),
    )


def missing(pipeline: Pipeline, parent: date | None, day: date) -> list[Gap]:
    """Days with logs between a parent's day and a day, without an accepted version."""
    from beam_jobs.ingest import day_files

    accepted = {version_date(version) for version in _registry(pipeline).accepted()}
    return stretches(
        d
        for d in _between(parent, day)
        if d not in accepted and day_files.files(pipeline, "events", d)
    )


def unread(pipeline: Pipeline, day: date) -> int:
    """A day's late events (`source.late_days`), if they are others than those that its features
    were made with.

    Raises:
      BadData: the folder of a later day cannot be read.
    """
    from beam_jobs.ingest import later_folders

    done = attempts.latest(pipeline, day, "features") if pipeline.source.late_days else None
    if done is None:
        return 0
    came = later_folders.look(pipeline, day)
    if came.unreadable:
        raise BadData("\n".join(came.unreadable.values()))
    return came.events if came.digest != done.summary.get("late", {}).get("digest", "") else 0


def stretches(days: Iterable[date]) -> list[Gap]:
    """Days, oldest first, as unbroken stretches."""
    found: list[Gap] = []
    for day in days:
        if found and day - found[-1].last == _DAY:
            found[-1] = Gap(found[-1].first, day)
        else:
            found.append(Gap(day, day))
    return found


def _registry(pipeline: Pipeline) -> Registry:
    return Registry(pipeline.registry.root, pipeline.name)


def _between(parent: date | None, day: date) -> list[date]:
    return [parent + _DAY * n for n in range(1, (day - parent).days)] if parent else []


def _descendants(registry: Registry, day: date) -> list[date]:
    """Later days whose line of accepted versions passes the day by; those trained from scratch have
    no line.
    """
    passed: set[str] = set()
    later = [version for version in registry.state().by_day() if version_date(version) > day]
    for version in later:
        parent = registry.manifest(version).parent
        if parent and (version_date(parent) < day or parent in passed):
            passed.add(version)
    newest = {version_date(version): version for version in later}
    return [d for d, version in newest.items() if version in passed]
