"""A batch of requests, answered by one version.

`based_on` says what an answer rests on:

    stored_user   the version knows the user
    history       the request's history
    features      other features of the request
    id            the user's id alone, of a version that carries no users: it may or may not have been trained on
    nothing       none of these: the answer is the one for anybody at this time
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from serving.answers.answer import Answer
from serving.answers.recommend import recommend, similar
from serving.answers.retrieval import chosen
from serving.http.bodies import Asked, Like, Options, refused
from serving.http.http_errors import Problem
from serving.http.micro_batching import Outcome
from serving.http.prometheus import Metrics
from serving.requests.query_rows import ALLOW, DENY, EXCLUDE, SEEN, TIME, USER, Refused, Requests
from serving.version.loaded_version import Version
from twinspire_core.errors import UsageError
from twinspire_core.sources.candidate_sources import POPULAR_LATELY, TWO_TOWER

_NO_FEATURES = {USER, SEEN, EXCLUDE, ALLOW, DENY}


def answer(
    version: Version, requests: Requests, asked: Sequence[Asked], metrics: Metrics
) -> list[Outcome]:
    """Answers requests: those with the same options together, each as it would be answered alone.

    Returns: for each, the body of its answer, or why there is none.
    """
    outcomes: list[Outcome] = [b""] * len(asked)
    groups: dict[Options, list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault(one.options, []).append(place)
    for places in groups.values():
        found = _together(version, requests, [asked[place] for place in places], metrics)
        for place, outcome in zip(places, found, strict=True):
            outcomes[place] = outcome
    return outcomes


def _together(
    version: Version, requests: Requests, asked: list[Asked], metrics: Metrics
) -> list[Outcome]:
    queries = [query for one in asked for query in one.queries]
    try:
        results = iter(_results(version, requests, queries, asked[0].options, metrics))
    except Exception as e:
        if len(asked) == 1:
            return [_told(e, asked[0])]
        # One of them is at fault: the others are answered without it.
        return [_together(version, requests, [one], metrics)[0] for one in asked]
    return [_dump(version, one, results) for one in asked]


def _told(error: Exception, asked: Asked) -> Exception:
    """The client's part of an error; what remains is the server's."""
    if not isinstance(error, Refused):
        return error
    return refused(error, "query" if asked.single else f"queries[{error.row}]")


def _dump(version: Version, asked: Asked, results: Iterator[dict[str, Any]]) -> bytes:
    mine: list[dict[str, Any]] = [next(results) for _ in asked.queries]
    told = (
        {"version": version.id, **mine[0]}
        if asked.single
        else {"version": version.id, "results": mine}
    )
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def _results(
    version: Version,
    requests: Requests,
    queries: list[dict[str, Any]],
    options: Options,
    metrics: Metrics,
) -> list[dict[str, Any]]:
    source = _source(version, options.source)
    now = datetime.now(version.pipeline.zone)
    found, mains = _ask(version, requests, queries, options, source, now)
    bases = [_basis(version, requests, query, found, n) for n, query in enumerate(queries)]
    answers = [(found, mains, n) for n in range(len(queries))]
    if options.source is None and source == TWO_TOWER and version.nominators is not None:
        # The mix has weights for users of whom nothing is known; the two-tower alone has not.
        bare = [n for n, basis in enumerate(bases) if basis == "nothing"]
        if bare:
            popular, mains = _ask(
                version, requests, [queries[n] for n in bare], options, POPULAR_LATELY, now
            )
            for place, n in enumerate(bare):
                answers[n] = (popular, mains, place)
    results = [
        _result(version, query, one, row, basis, options, of)
        for query, (one, of, row), basis in zip(queries, answers, bases, strict=True)
    ]
    metrics.unknown_users.inc(
        sum(one["known"] is False and one["user"] is not None for one in results)
    )
    metrics.short_lists.inc(sum(len(one["items"]) < options.k for one in results))
    return results


def _source(version: Version, source: str | None) -> str:
    try:
        return chosen(version, source)
    except UsageError as e:
        raise Problem("no_such_source", str(e), where="source") from e


def _ask(
    version: Version,
    requests: Requests,
    queries: list[dict[str, Any]],
    options: Options,
    source: str,
    now: datetime,
) -> tuple[Answer, list[list[str]] | None]:
    """The answer, and the main source of each item where there are several."""
    table = requests.lay_out(queries)
    found = recommend(
        version, table, options.k, exclude_seen=options.exclude_seen, source=source, now=now
    )
    return found, found.main_sources().to_pylist() if found.shares is not None else None


def _basis(
    version: Version, requests: Requests, query: dict[str, Any], found: Answer, row: int
) -> str:
    if found.known is not None and found.known[row]:
        return "stored_user"
    if query.get(SEEN):
        return "history"
    if any(name not in _NO_FEATURES and requests.schema.field(name).type != TIME for name in query):
        return "features"
    by_id = version.pipeline.user_id is not None
    return "id" if found.known is None and USER in query and by_id else "nothing"


def _result(
    version: Version,
    query: Mapping[str, Any],
    found: Answer,
    row: int,
    basis: str,
    options: Options,
    mains: list[list[str]] | None,
) -> dict[str, Any]:
    rows = found.rows[row]
    count = int(np.count_nonzero(rows >= 0))
    rows = rows[:count]
    told: dict[str, Any] = {
        "user": query.get(USER),
        "known": None if found.known is None else bool(found.known[row]),
        "based_on": basis,
        "source": found.source,
        "items": version.ids[rows].tolist(),
        "scores": np.ascontiguousarray(found.scores[row, :count]),  # as orjson needs it
    }
    if mains is not None:
        told["sources"] = mains[row]
    if options.display:
        told["display"] = version.describe(rows)
        told["history"] = _history(version, found, row)
    if notes := found.notes_of(row):
        told["notes"] = notes
    return told


def _history(version: Version, found: Answer, row: int) -> list[dict[str, Any]]:
    """What the answer goes out from, newest first, with display columns where the item is in the
    catalogue.
    """
    past = (found.history[row].as_py() if found.history is not None else None) or []
    rows = version.rows(past)
    texts = iter(version.describe(rows[rows >= 0]))
    return [
        next(texts) if place >= 0 else {"item": item}
        for item, place in zip(past, rows, strict=True)
    ][::-1]


def alike(version: Version, asked: Like) -> bytes:
    """The body of the answer to `/v1/similar`.

    Raises:
      Problem: the item is not in the catalogue, or a filter is not understood.
    """
    if version.rows([asked.item])[0] < 0:
        message = (
            f"An item is one of the {len(version.items):,} of version {version.id}; {asked.item!r}"
            " is not."
        )
        raise Problem("unknown_item", message, where="item")
    try:
        found = similar(version, asked.item, asked.k, allow=asked.allow, deny=asked.deny)
    except UsageError as e:
        raise Problem("wrong_type", str(e)) from e
    count = int(found.counts[0])
    rows = found.rows[0, :count]
    told: dict[str, Any] = {"version": version.id, "item": asked.item}
    told |= {"items": version.ids[rows].tolist(), "scores": found.scores[0, :count]}
    if asked.display:
        told["display"] = version.describe(rows)
    if notes := found.notes_of(0):
        told["notes"] = notes
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
