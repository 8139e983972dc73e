"""Whether what is live is well: recent, quick, and with a list for everybody. Writes nothing."""

import statistics
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from typing import Any

import anyio
import httpx
import numpy as np

from index_builder.registry.registry import Registry, version_date
from serving.version.loaded_version import Version
from twinspire.monitor.answers import Answer, ask, connection, describe
from twinspire.monitor.questions import questions
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, NothingToDo, UsageError

_SWAP = timedelta(minutes=10)
"""What a server may take to follow the registry: it looks every few seconds, and loads."""
_ENOUGH = 5
"""Of so many different histories, lists are not all the same by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was found.

    Attributes:
      version: the live one.
      day: the day that it was trained on.
      since: when it went live.
      age: time since the end of that day.
      server: who was asked; None is the version itself.
      lists: how many were asked for.
      median_ms: half of them took longer; None where none came.
      worst_ms: the longest.
      problems: one sentence each; none where all is well.
    """

    version: str
    day: date
    since: datetime
    age: timedelta
    server: str | None
    lists: int = 0
    median_ms: float | None = None
    worst_ms: float | None = None
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What scripts read."""
        return {
            "version": self.version,
            "day": str(self.day),
            "age_hours": round(self.age / timedelta(hours=1), 1),
            "server": self.server,
            "lists": self.lists,
            "median_ms": self.median_ms,
            "worst_ms": self.worst_ms,
            "problems": list(self.problems),
        }


def check(pipeline: Pipeline, token: str | None = None, now: datetime | None = None) -> Health:
    """Asks what is live, and holds it against `[monitor]`.

    Args:
      pipeline: whose.
      token: of `monitor.server`.
      now: the time; by default the present.

    Raises:
      NothingToDo: no version is live yet.
      TryAgain: the registry does not answer.
    """
    now = now or datetime.now(UTC)
    health = _health(pipeline, now)
    seed = zlib.crc32(f"{health.version} {now:%F %H}".encode())  # others every hour
    try:
        told, answers, known, newer = anyio.run(_ask_all, pipeline, token, seed)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return replace(
            health, problems=(*_about_age(pipeline, health), _unreachable(error, pipeline))
        )
    took = [1000 * answer.seconds for answer in answers if not answer.problem]
    health = replace(
        health,
        lists=len(answers),
        median_ms=round(statistics.median(took), 1) if took else None,
        worst_ms=round(max(took), 1) if took else None,
    )
    problems = (
        *_about_age(pipeline, health),
        *_about_version(pipeline, health, told, now),
        *list_problems(answers, known, newer),
        *_about_latency(pipeline, health),
    )
    return replace(health, problems=problems)


def _health(pipeline: Pipeline, now: datetime) -> Health:
    """What the registry says."""
    log = Registry(pipeline.registry.root, pipeline.name).log()
    live = log[-1].live if log else None
    if live is None:
        raise NothingToDo(
            f"No version of {pipeline.name} is live yet. Make one: twinspire run PIPELINE"
        )
    since = log[-1].at
    for entry in reversed(log):
        if entry.live != live:
            break
        since = entry.at
    day = version_date(live)
    end = datetime.combine(day + timedelta(days=1), clock(), pipeline.zone)
    return Health(version=live, day=day, since=since, age=now - end, server=pipeline.monitor.server)


async def _ask_all(
    pipeline: Pipeline, token: str | None, seed: int
) -> tuple[dict[str, Any], list[Answer], frozenset[str], int]:
    """What `/v1/version` says, the answers of the version that it names, the ids of its catalogue, and
    how many items came after it.
    """
    async with connection(pipeline, token) as client:
        told = await describe(client)
        if told["version"] is None:
            return told, [], frozenset(), 0
        try:
            # Whom it knows and what it offers is in its files, and no server tells it.
            version = await anyio.to_thread.run_sync(Version.open, pipeline, told["version"])
        except (BadData, UsageError) as error:
            return told | {"failure": {"error": str(error)}}, [], frozenset(), 0
        asked = questions(version, pipeline.monitor.users, np.random.default_rng(seed))
        answers = [await ask(client, question) for question in asked]
        # Only now: its catalogue may have grown meanwhile.
        newer = (await describe(client)).get("new_items", 0)
    return told, answers, frozenset(version.ids.tolist()), newer


def _unreachable(error: Exception, pipeline: Pipeline) -> str:
    return (
        f"A server answers at monitor.server = {pipeline.monitor.server}, with the token of"
        f" TWINSPIRE_TOKEN if it wants one; it does not: {type(error).__name__}: {error}"
    )


def _about_age(pipeline: Pipeline, health: Health) -> Iterator[str]:
    if health.age > (most := pipeline.monitor.max_age):
        yield (
            f"The live version's day ended at most {_hours(most)} ago (monitor.max_age); that of"
            f" {health.version} ended {_hours(health.age)} ago. What became of the days since:"
            " twinspire status PIPELINE"
        )


def _hours(time: timedelta) -> str:
    return f"{time / timedelta(hours=1):,.0f} h"


def _about_version(
    pipeline: Pipeline, health: Health, told: dict[str, Any], now: datetime
) -> Iterator[str]:
    """Whether what answers is the live version, and of this recommender."""
    version, failure = told["version"], told["failure"]
    if told["pipeline"] != pipeline.name:
        yield f"monitor.server serves {pipeline.name}; the one at {health.server} serves {told['pipeline']}"
    elif failure:
        yield f"{version or 'Nothing'} answers, since another cannot be loaded: {failure['error']}"
    elif version is None:
        yield f"{health.version} is live, and nothing answers yet"
    elif version != health.version and now - health.since > _SWAP:
        yield (
            f"A server serves what is live within {_SWAP.seconds // 60} minutes; {health.version} is"
            f" live since {health.since:%F %H:%M} UTC, and {version} answers"
        )


def list_problems(
    answers: Sequence[Answer], known: frozenset[str], newer: int = 0
) -> Iterator[str]:
    """Whether everybody gets a list that can be: of items of the catalogue, each once, with scores.

    Args:
      answers: the lists.
      known: ids of the catalogue.
      newer: how many items came after it; which they are nobody tells.
    """
    others = {item for answer in answers for item in answer.items} - known
    if len(others) <= newer:
        known |= others
    wrong: dict[str, list[str]] = {}
    for answer in answers:
        if what := answer.problem or _wrong(answer, known):
            wrong.setdefault(what, []).append(answer.question.of)
    for what, people in wrong.items():
        whose = ", ".join(dict.fromkeys(people))
        yield f"{len(people)} of {len(answers)} lists are wrong, of {whose}: {what}"
    personal = [answer for answer in answers if answer.question.query.get("history")]
    lists = {answer.items for answer in personal}
    if len(lists) == 1 and len(personal) > _ENOUGH and not wrong:
        yield f"Users get lists of their own; {len(personal)} histories got the same one"


def _wrong(answer: Answer, known: frozenset[str]) -> str:
    """What is wrong with a list; empty if nothing is."""
    if not answer.items:
        return "the list is empty"
    if len(set(answer.items)) < len(answer.items):
        return "an item is in it twice"
    if not known.issuperset(answer.items):
        return "an item of it is not in the catalogue"
    if len(answer.scores) != len(answer.items) or None in answer.scores:
        return "a score of it is no number"
    return ""


def _about_latency(pipeline: Pipeline, health: Health) -> Iterator[str]:
    most = pipeline.monitor.max_latency_ms
    if health.median_ms is not None and health.median_ms > most:
        yield (
            f"Half of the lists are there within {most} ms (monitor.max_latency_ms); of"
            f" {health.lists} half took longer than {health.median_ms} ms"
        )
