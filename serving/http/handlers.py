"""Requests, answered by one version: batches of them, heavy ones part by part, and `/v1/similar`.

Lists of a version, as an answer has them.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
import orjson

from serving.answers.answer import Answer
from serving.answers.recommend import recommend
from serving.answers.similar import similar
from serving.http.bodies import refused
from serving.http.http_errors import Problem
from serving.http.micro_batching import Outcome, Parts
from serving.http.prometheus import Metrics
from serving.http.request_models import (
    Described,
    OneAnswer,
    ReasonPart,
    RecommendRequest,
    Result,
    SeveralAnswers,
    SimilarAnswer,
    SimilarRequest,
)
from serving.requests.query_rows import Requests
from serving.requests.request_model import USER, ListRequest, Refused, filter_of
from serving.version.attributes import Filter
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.errors import UsageError, shorten

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
    items = answer.history[row].as_py() or []
    rows = version.rows(items)
    described = iter(version.describe(rows[rows >= 0]))
    oldest_first = [
        next(described) if row >= 0 else {"item": item}
        for item, row in zip(items, rows, strict=True)
    ]
    return oldest_first[::-1]


def answer_batch(
    version: Version, requests: Requests, batch: Sequence[RecommendRequest], metrics: Metrics
) -> list[Outcome]:
    """Answers requests: those with the same options together, each as it would be answered alone.

    Returns: for each, the body of its answer, or why there is none.
    """
    outcomes: list[Outcome] = [b""] * len(batch)
    groups: dict[ListRequest, list[int]] = {}
    for place, request in enumerate(batch):
        groups.setdefault(request.options, []).append(place)
    for places in groups.values():
        answers = _answer_alike(version, requests, [batch[place] for place in places], metrics)
        for place, answer in zip(places, answers, strict=True):
            outcomes[place] = answer if isinstance(answer, Exception) else dump(answer)
    return outcomes


def answer_one(
    version: Version, requests: Requests, request: RecommendRequest, metrics: Metrics
) -> Parts[OneAnswer]:
    """Answers a request of one query part by part: first the list, then why it is as it is.

    Raises:
      Problem: the version cannot answer it.
    """
    try:
        [result], explaining = begin_results(
            version, requests, request.queries, request.options, metrics
        )
    except Refused as e:
        raise refused(e, "query") from e
    yield 1
    for _ in explaining:
        yield 0
    return {"version": version.id, **result}


def dump(answer: Mapping[str, Any]) -> bytes:
    """The body of an answer."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _answer_alike(
    version: Version, requests: Requests, batch: list[RecommendRequest], metrics: Metrics
) -> list[OneAnswer | SeveralAnswers | Exception]:
    """Answers requests with the same options."""
    queries = [query for request in batch for query in request.queries]
    try:
        found, explaining = begin_results(version, requests, queries, batch[0].options, metrics)
        deque(explaining, maxlen=0)
    except Refused as e:
        return _answer_others(version, requests, batch, e, metrics)
    except Exception as e:
        if len(batch) == 1:
            return [e]
        # One of them is at fault: the others are answered without it.
        return [_answer_alike(version, requests, [one], metrics)[0] for one in batch]
    results = iter(found)
    return [_answer(version, request, results) for request in batch]


def _answer_others(
    version: Version,
    requests: Requests,
    batch: list[RecommendRequest],
    error: Refused,
    metrics: Metrics,
) -> list[OneAnswer | SeveralAnswers | Exception]:
    """Answers all requests but the one that has the query that is refused."""
    ends = np.cumsum([len(request.queries) for request in batch])
    place = int(np.searchsorted(ends, error.row, side="right"))
    at_fault = batch[place]
    row = error.row - int(ends[place]) + len(at_fault.queries)
    refusal = refused(error, "query" if at_fault.single else f"queries[{row}]")
    others = [*batch[:place], *batch[place + 1 :]]
    answers = _answer_alike(version, requests, others, metrics) if others else []
    return [*answers[:place], refusal, *answers[place:]]


def answer_parts(
    version: Version, requests: Requests, request: RecommendRequest, most: int, metrics: Metrics
) -> Parts[bytes]:
    """Answers a request part by part: queries with the same filter together, at most so many at once.

    Raises:
      Problem: the version cannot answer a query.
    """
    if request.single:
        return dump((yield from answer_one(version, requests, request, metrics)))
    now = datetime.now(version.pipeline.zone)
    by_filter: dict[Filter, list[int]] = {}
    for place, query in enumerate(request.queries):
        by_filter.setdefault(filter_of(query), []).append(place)
    results = [b""] * len(request.queries)
    for same in by_filter.values():
        for begin in range(0, len(same), most):
            places = same[begin : begin + most]
            queries = [request.queries[place] for place in places]
            try:
                part, explaining = begin_results(
                    version, requests, queries, request.options, metrics, now
                )
            except Refused as e:
                raise refused(e, f"queries[{places[e.row]}]") from e
            yield len(places)
            for _ in explaining:
                yield 0
            for place, result in zip(places, part, strict=True):
                results[place] = dump(result)
    return b'{"version":%b,"results":[%b]}' % (orjson.dumps(version.id), b",".join(results))


def _answer(
    version: Version, request: RecommendRequest, results: Iterator[Result]
) -> OneAnswer | SeveralAnswers:
    if request.single:
        return {"version": version.id, **next(results)}
    return {"version": version.id, "results": [next(results) for _ in request.queries]}


def similar_body(version: Version, request: SimilarRequest) -> bytes:
    """The body of the answer to `/v1/similar`.

    Raises:
      Problem: as `answer_similar`.
    """
    return dump(answer_similar(version, request))


def answer_similar(version: Version, request: SimilarRequest) -> SimilarAnswer:
    """The answer to `/v1/similar`.

    Raises:
      Problem: the item is not in the corpus, or a filter is not understood.
    """
    published = version.published
    if published.rows([request.item])[0] < 0:
        message = (
            f"An item is one of the {len(published.items):,} of version {version.id};"
            f" {shorten(request.item)} is not."
        )
        if version.rows([request.item])[0] >= 0:
            message = f"{message[:-1]}: it came after it, and is known by its events alone."
        raise Problem("unknown_item", message, where="item")
    try:
        found = similar(version, request.item, request.options)
    except UsageError as e:
        raise Problem("wrong_type", str(e)) from e
    count = int(found.counts[0])
    rows = found.rows[0, :count]
    answer: SimilarAnswer = {
        "version": version.id,
        "item": request.item,
        "items": version.ids[rows].tolist(),
        "scores": np.ascontiguousarray(found.scores[0, :count]),
    }
    if request.options.display:
        answer["display"] = version.describe(rows)
    if warnings := found.warnings.of(0):
        answer["notes"] = list(warnings)
    return answer
