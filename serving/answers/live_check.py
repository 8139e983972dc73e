"""Checks the live version: it must be new enough, and give different lists to different users.

It opens the version from the registry and asks no server. Prometheus watches latency and errors.
docs/decisions/0068-notifications.md
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import Any, NamedTuple

import numpy as np

from index_builder.registry.registry import Registry
from index_builder.registry.version_log import version_date
from serving.answers.recommend import recommend
from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, NothingToDo, UsageError

_USERS = 20
_ITEMS = 10
_HISTORY = 5
# The fewest users whose lists are compared: with fewer, equal lists prove nothing
_FEWEST = 6
_ROLL_BACK = "Go back to the version before", "twinspire rollback PIPELINE"


class Check(NamedTuple):
    """One thing that was checked.

    Attributes:
      text: what was checked, the value found and the limit.
      problem: what is wrong, in a few words; empty if the check passed.
      remedy: what to do.
      command: the command that does it, with PIPELINE for the pipeline file.
    """

    text: str
    problem: str = ""
    remedy: str = ""
    command: str = ""


def _judged(text: str, is_wrong: bool, *problem: str) -> Check:
    return Check(text, *problem) if is_wrong else Check(text)


def live_version(pipeline: Pipeline) -> str:
    """The live version.

    Raises:
      NothingToDo: no version is live.
    """
    live = Registry(pipeline.registry.root, pipeline.name).live()
    if live is None:
        raise NothingToDo(
            f"No version of {pipeline.name} is live yet. Make one: twinspire run PIPELINE"
        )
    return live


def check_live(pipeline: Pipeline, live: str, now: datetime | None = None) -> list[Check]:
    """Checks the live version; writes nothing.

    Args:
      pipeline: with the limit, `registry.max_age`.
      now: by default the present.
    """
    age = check_age(pipeline, live, now or datetime.now(UTC))
    try:
        return [age, *check_lists(Version.open(pipeline, live))]
    except (BadData, UsageError) as error:
        text = f"The live version must load and give lists; {live} does not: {error}"
        return [age, Check(text, "the live version is damaged", *_ROLL_BACK)]


def check_age(pipeline: Pipeline, live: str, now: datetime) -> Check:
    """Checks that the day of the live version ended at most `registry.max_age` ago; 0 allows any age."""
    age = now - datetime.combine(version_date(live) + timedelta(days=1), clock(), pipeline.zone)
    most = pipeline.registry.max_age
    text = f"The day of the live version {live} ended {_long(age)} ago"
    if most:
        text += f"; at most {_long(most)} are allowed (registry.max_age)"
    days = "See what became of the days since", "twinspire status PIPELINE"
    return _judged(text, bool(most) and age > most, "the live version is too old", *days)


def _long(time: timedelta) -> str:
    for unit, days in (("years", 365.25), ("days", 1.0)):
        if time >= 2 * timedelta(days=days):
            return f"{time / timedelta(days=days):,.0f} {unit}"
    return f"{time / timedelta(hours=1):,.0f} h"


def check_lists(version: Version) -> list[Check]:
    """Checks the lists of the same few users each time, and of an unknown one."""
    users = _sample(version)
    # The empty query is a user about whom nothing is known
    answer = recommend(version, [*users, {}], ListRequest(k=_ITEMS))
    counts = answer.counts.tolist()
    empty = counts.count(0)
    text = f"{empty} of {len(counts)} lists are empty; no list may be"
    checks = [_judged(text, empty > 0, "lists are empty", *_ROLL_BACK)]
    # Users without a history may all get the same popular items
    history = [True] * len(users) if answer.history is None else answer.history.to_pylist()
    lists = Counter(tuple(answer.rows[n]) for n in range(len(users)) if history[n])
    asked = lists.total()
    if asked >= _FEWEST:
        same = max(lists.values())
        text = f"{same} of {asked} users get the same list; at most {asked // 2} users may"
        problem = "most users get the same list"
        checks.append(_judged(text, same > asked // 2, problem, *_ROLL_BACK))
    return checks


def _sample(version: Version) -> list[dict[str, Any]]:
    """Some of the users that the version stores. If it stores none, random histories."""
    if version.users is not None:
        return [{"user": user} for user in version.users.some(_USERS)]
    if version.pipeline.history is None:
        return []
    draw = np.random.default_rng(0)  # the same histories each time, so that checks can be compared
    length = min(_HISTORY, version.pipeline.history.length, len(version.ids))
    return [
        {"history": draw.choice(version.ids, length, replace=False).tolist()} for _ in range(_USERS)
    ]
