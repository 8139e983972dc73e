"""What the registry's log makes of a day: its parent, what became of its version, which days it did not learn from."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import import_module
from typing import Any

from index_builder.log import version_date
from index_builder.registry import Registry
from twinspire import storage, workdir
from twinspire.errors import BadData
from twinspire.pipeline import Pipeline
from twinspire.stages import NOBODY, Gap, Parent, Start

SEARCH_DAYS = 28
"""After so many days the settings of an index are searched for anew: what was best may not be any more."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A day among the others, as the registry's log has them now.

    Attributes:
      gaps: days with logs between its parent and it that have no accepted version.
      filled: days between them that got one since; its own version has not inherited from them.
      heirs: of a day that was filled in, the later days that had run before and have not inherited from it.
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
        train=workdir.place(pipeline, manifest.sources["train"]),
    )


def find_start(pipeline: Pipeline, day: date) -> Start:
    """The version whose index settings a day's index starts from: the parent, unless they are to be searched for anew.

    That is so after a rollback: a day between the two had a version that went wrong.
    """
    registry = _registry(pipeline)
    state = registry.state()
    version = state.accepted_before(day)
    if version is None:
        return NOBODY
    between = [v for v, fate in state.fate.items() if fate == "rolled back" and version_date(version) < version_date(v)]
    undone = max((v for v in between if version_date(v) < day), default=None)
    return Start(why=f"{undone} was rolled back") if undone else settings_of(pipeline, version, day)


def settings_of(pipeline: Pipeline, version: str, day: date) -> Start:
    """A version's index settings as a start, unless they were searched for long before the day."""
    told: dict[str, Any] = {}
    with suppress(FileNotFoundError):  # then there is nothing to start from, which is no reason not to go on
        told = json.loads(storage.read_bytes(_registry(pipeline).place(version, "index.json")))
    searched = told.get("tuning", {}).get("searched")
    if searched is None:
        return Start(why=f"{version} does not tell when its settings were searched for")
    if (day - date.fromisoformat(searched)).days >= SEARCH_DAYS:
        return Start(why=f"the settings of {version} were searched for on {searched}, {SEARCH_DAYS} days ago or more")
    return Start(version=version, index=told)


def is_live(pipeline: Pipeline, version: str) -> bool:
    """Whether it is live now: a stage that is already done may tell of what was live when it ran."""
    return _registry(pipeline).live() == version


def is_kept(pipeline: Pipeline, version: str) -> bool:
    """Whether the registry still has it: one that was pruned since is to be published again."""
    state = _registry(pipeline).state()
    return version in state.last and version not in state.pruned


def lineage(pipeline: Pipeline, day: date) -> Lineage:
    """Looks at the version that the day's training started from; where it has not been trained, at its parent-to-be."""
    registry = _registry(pipeline)
    accepted = sorted({version_date(version) for version in registry.accepted()})
    trained = workdir.latest(pipeline, day, "train")
    if trained is None:
        parent = max((d for d in accepted if d < day), default=None)
    else:  # from scratch, a day learns from all days of its window
        parent = version_date(trained.parent) if trained.parent and trained.mode == "incremental" else None
    between = _between(parent, day)
    return Lineage(
        gaps=missing(pipeline, parent, day),
        filled=stretches(d for d in between if d in accepted),
        heirs=stretches(_heirs(registry, day)) if day in accepted else [],
        later=Gap(day, max([*accepted, day])),
    )


def missing(pipeline: Pipeline, parent: date | None, day: date) -> list[Gap]:
    """Days with logs between a parent's day and a day, without an accepted version."""
    registry, source = _registry(pipeline), import_module("beam_jobs.reading.source")
    accepted = {version_date(version) for version in registry.accepted()}
    return stretches(d for d in _between(parent, day) if d not in accepted and source.files(pipeline, "events", d))


def unread(pipeline: Pipeline, day: date) -> int:
    """A day's late events (`source.late_days`), if they are others than those that its features were made with.

    Raises:
      BadData: the folder of a later day cannot be read.
    """
    done = workdir.latest(pipeline, day, "features") if pipeline.source.late_days else None
    if done is None:
        return 0
    came = import_module("beam_jobs.reading.late").look(pipeline, day)
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


def _heirs(registry: Registry, day: date) -> list[date]:
    """Later days whose line of accepted versions passes the day by; those trained from scratch have no line."""
    passed: set[str] = set()
    later = [version for version in registry.state().by_day() if version_date(version) > day]
    for version in later:
        parent = registry.manifest(version).parent
        if parent and (version_date(parent) < day or parent in passed):
            passed.add(version)
    newest = {version_date(version): version for version in later}
    return [d for d, version in newest.items() if version in passed]
