"""Lists of a version, as an answer has them."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

import numpy as np

from serving.answers.answer import Answer
from serving.answers.recommend import recommend
from serving.http.answer_models import Described, ReasonPart, Result
from serving.http.http_errors import Problem
from serving.http.prometheus import Metrics
from serving.requests.list_request import ListRequest
from serving.requests.query_rows import Requests
from serving.requests.request_model import USER
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.errors import UsageError

_EXPLAINED_AT_ONCE = 10  # items, which take ten milliseconds: others wait for them
Query = dict[str, Any]
"""Values by column, of `RequestModel.parse`."""


def begin_results(
    version: Version,
    requests: Requests,
    queries: list[Query],
    options: ListRequest,
    metrics: Metrics,
    now: datetime | None = None,
) -> tuple[list[Result], Iterator[None]]:
    """Lists with the same options, but for `reasons`: the iterator fills them in, those of a few items
    at each step.

    Raises:
      Problem: the version has no such source.
      Refused: it cannot answer a query; `row` is its place.
    """
    try:
        version.choose_source(options.source)
    except UsageError as e:
        raise Problem("no_such_source", str(e), where="source") from e
    answer = recommend(version, requests.lay_out(queries), options, now=now)
    several = answer.shares is not None
    sources = answer.main_sources().to_pylist() if several else [[]] * len(queries)
    results = [
        _result(version, query, answer, row, sources[row], options)
        for row, query in enumerate(queries)
    ]
    _count(results, options, metrics)
    return results, _explain(results, answer)


def _explain(results: list[Result], answer: Answer) -> Iterator[None]:
    if answer.reasons is None:
        return
    for row, result in enumerate(results):
        count = len(result["items"])
        for begin in range(0, count, _EXPLAINED_AT_ONCE):
            some = slice(begin, min(count, begin + _EXPLAINED_AT_ONCE))
            result["reasons"] += [
                [cast(ReasonPart, reason._asdict()) for reason in of_item]
                for of_item in answer.reasons.of(row, some)
            ]
            yield


def _count(results: list[Result], options: ListRequest, metrics: Metrics) -> None:
    metrics.unknown_users.inc(
        sum(one["known"] is False and one["user"] is not None for one in results)
    )
    metrics.short_lists.inc(sum(len(one["items"]) < options.k for one in results))
    for source, lists in Counter(one["source"] for one in results).items():
        metrics.lists.labels(source).inc(lists)


def _result(
    version: Version,
    query: Query,
    answer: Answer,
    row: int,
    sources: list[str],
    options: ListRequest,
) -> Result:
    count = int(np.count_nonzero(answer.rows[row] >= 0))
    rows = answer.rows[row][:count]
    result: Result = {
        "user": query.get(USER),
        "known": None if answer.known is None else bool(answer.known[row]),
        "based_on": answer.bases[row],
        "source": answer.list_sources[row],
        "exclude_seen": version.leaves_out_seen(options.exclude_seen),
        "items": version.ids[rows].tolist(),
        "scores": np.ascontiguousarray(answer.scores[row, :count]),  # as orjson needs it
    }
    if result["source"] != TWO_TOWER:
        result["sources"] = sources
    if answer.reasons is not None:
        result["reasons"] = []
    if options.display:
        result["display"] = version.describe(rows)
        result["history"] = _history(version, answer, row)
    if warnings := answer.warnings.of(row):
        result["notes"] = list(warnings)
    return result


def _history(version: Version, answer: Answer, row: int) -> list[Described]:
    """What the answer goes out from, newest first, with display columns where the item is in the
    corpus.
    """
    if answer.history is None:
        return []
    return version.describe_ids(answer.history[row].as_py() or [])[::-1]
