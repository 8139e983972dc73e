"""Lists of a version, as an answer has them.

`based_on` says what a list rests on:

    stored_user   the version knows the user
    history       the request's history
    features      other features of the request
    id            the user's id alone, of a version that carries no users: it may or may not have been trained on
    nothing       none of these: the answer is the one for anybody at this time
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, cast

import numpy as np

from serving.answers.answer import Answer
from serving.answers.recommend import recommend
from serving.http.answer_models import Basis, Described, ReasonPart, Result
from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics
from serving.http.request_models import Options
from serving.requests.query_rows import TIME, Requests
from serving.requests.request_model import ALLOW, DENY, EXCLUDE, SEEN, USER
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import POPULAR_LATELY, TWO_TOWER
from twinspire_core.errors import UsageError

_EXPLAINED_AT_ONCE = 10  # items, which take ten milliseconds: others wait for them
_NO_FEATURES = {USER, SEEN, EXCLUDE, ALLOW, DENY}
Query = dict[str, Any]
"""Values by column, of `RequestModel.parse`."""


class _Lists(NamedTuple):
    """The lists of one source, and the main source of each item where there are several."""

    answer: Answer
    main_sources: list[list[str]] | None


class _Place(NamedTuple):
    """Where the list of a query is."""

    lists: _Lists
    row: int


def make_results(
    version: Version,
    requests: Requests,
    queries: list[Query],
    options: Options,
    metrics: Metrics,
    now: datetime | None = None,
) -> list[Result]:
    """Lists with the same options.

    Raises:
      Problem: the version has no such source.
      Refused: it cannot answer a query; `row` is its place.
    """
    results, explaining = begin_results(version, requests, queries, options, metrics, now)
    for _ in explaining:
        pass
    return results


def begin_results(
    version: Version,
    requests: Requests,
    queries: list[Query],
    options: Options,
    metrics: Metrics,
    now: datetime | None = None,
) -> tuple[list[Result], Iterator[None]]:
    """Likewise, but for `reasons`: the iterator fills them in, those of a few items at each step.

    Raises:
      Problem or Refused: as `make_results`.
    """
    source = _source(version, options.source)
    # One moment for all lists of an answer, also for those that are made again below.
    now = now or datetime.now(version.pipeline.zone)
    lists = _recommend(version, requests, queries, options, source, now)
    bases = [_basis(version, requests, query, lists.answer, n) for n, query in enumerate(queries)]
    places = [_Place(lists, n) for n in range(len(queries))]
    if options.source is None and source == TWO_TOWER:
        # The fusion has weights for users of whom nothing is known; the two-tower alone has not.
        unknown = [n for n, basis in enumerate(bases) if basis == "nothing"]
        if unknown:
            those = [queries[n] for n in unknown]
            popular = _recommend(
                version, requests, those, options, POPULAR_LATELY, now, stands_in=True
            )
            for row, n in enumerate(unknown):
                places[n] = _Place(popular, row)
    results = [
        _result(version, query, place, basis, options)
        for query, place, basis in zip(queries, places, bases, strict=True)
    ]
    _count(results, options, metrics)
    return results, _explain(results, places)


def _explain(results: list[Result], places: list[_Place]) -> Iterator[None]:
    for result, place in zip(results, places, strict=True):
        reasons = place.lists.answer.reasons
        if reasons is None:
            continue
        count = len(result["items"])
        for begin in range(0, count, _EXPLAINED_AT_ONCE):
            some = slice(begin, min(count, begin + _EXPLAINED_AT_ONCE))
            result["reasons"] += [
                [cast(ReasonPart, reason._asdict()) for reason in of_item]
                for of_item in reasons.of(place.row, some)
            ]
            yield


def _count(results: list[Result], options: Options, metrics: Metrics) -> None:
    metrics.unknown_users.inc(
        sum(one["known"] is False and one["user"] is not None for one in results)
    )
    metrics.short_lists.inc(sum(len(one["items"]) < options.k for one in results))
    for source, lists in Counter(one["source"] for one in results).items():
        metrics.lists.labels(source).inc(lists)


def _source(version: Version, source: str | None) -> str:
    try:
        return version.choose_source(source)
    except UsageError as e:
        raise Problem("no_such_source", str(e), where="source") from e


def _recommend(
    version: Version,
    requests: Requests,
    queries: list[Query],
    options: Options,
    source: str,
    now: datetime,
    *,
    stands_in: bool = False,
) -> _Lists:
    table = requests.lay_out(queries)
    answer = recommend(
        version,
        table,
        options.k,
        exclude_seen=options.exclude_seen,
        source=source,
        rules=options.rules,
        new_share=options.new_share,
        stands_in=stands_in,
        explain=options.explain,
        now=now,
    )
    if answer.shares is None:
        return _Lists(answer, None)
    return _Lists(answer, answer.main_sources().to_pylist())


def _basis(version: Version, requests: Requests, query: Query, answer: Answer, row: int) -> Basis:
    if answer.known is not None and answer.known[row]:
        return "stored_user"
    if query.get(SEEN):
        return "history"
    features = [name for name in query if name not in _NO_FEATURES]
    if any(requests.features.field(name).type != TIME for name in features):
        return "features"
    by_id = version.pipeline.user_id is not None
    if answer.known is None and USER in query and by_id:
        return "id"
    return "nothing"


def _result(
    version: Version, query: Query, place: _Place, basis: Basis, options: Options
) -> Result:
    answer = place.lists.answer
    row = place.row
    count = int(np.count_nonzero(answer.rows[row] >= 0))
    rows = answer.rows[row][:count]
    result: Result = {
        "user": query.get(USER),
        "known": None if answer.known is None else bool(answer.known[row]),
        "based_on": basis,
        "source": answer.source,
        "exclude_seen": _excludes_seen(version, options),
        "items": version.ids[rows].tolist(),
        "scores": np.ascontiguousarray(answer.scores[row, :count]),  # as orjson needs it
    }
    if answer.weights is not None:
        result["weights"] = answer.weights
    if place.lists.main_sources is not None:
        result["sources"] = place.lists.main_sources[row]
    if answer.reasons is not None:
        result["reasons"] = []
    if options.display:
        result["display"] = version.describe(rows)
        result["history"] = _history(version, answer, row)
    if warnings := answer.warnings.of(row):
        result["notes"] = list(warnings)
    return result


def _excludes_seen(version: Version, options: Options) -> bool:
    return version.exclude_seen if options.exclude_seen is None else options.exclude_seen


def _history(version: Version, answer: Answer, row: int) -> list[Described]:
    """What the answer goes out from, newest first, with display columns where the item is in the
    corpus.
    """
    if answer.history is None:
        return []
    items = answer.history[row].as_py() or []
    rows = version.rows(items)
    described = iter(version.describe(rows[rows >= 0]))
    oldest_first = [
        next(described) if row >= 0 else {"item": item}
        for item, row in zip(items, rows, strict=True)
    ]
    return oldest_first[::-1]
