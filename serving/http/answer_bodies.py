"""Bodies of answers: a version's lists as clients get them, of whole batches, and of heavy requests part
by part.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
import orjson

from serving.answers.answer import Answer
from serving.answers.encoded_queries import encode_finite
from serving.answers.recommend import recommend, similar
from serving.http.bodies import RecommendRequest, SimilarRequest, refused
from serving.http.http_errors import Problem
from serving.http.micro_batching import Outcome, Parts
from serving.http.openapi import Encoded, OneAnswer, Result, SimilarAnswer
from serving.http.prometheus import Metrics
from serving.requests.json_values import Refused
from serving.requests.query_rows import Requests, complete, read_bases
from serving.requests.request_model import USER, ListRequest, filter_of
from serving.version.filters import Filter
from serving.version.loaded_version import Version
from twinspire_core.config.source_registry import TWO_TOWER
from twinspire_core.errors import UsageError, shorten

_EXPLAINED_AT_ONCE = 10  # items, which take ten milliseconds while others wait


def answer_batch(
    version: Version, requests: Requests, batch: Sequence[RecommendRequest], metrics: Metrics
) -> list[Outcome]:
    """Answers a batch of requests. Each gets the answer that it would get alone.

    Returns: for each request the body of its answer, or an exception.
    """
    outcomes: list[Outcome] = [b""] * len(batch)
    # Requests with equal options are answered together, by one call of each source.
    groups: dict[ListRequest, list[int]] = {}
    for number, request in enumerate(batch):
        groups.setdefault(request.options, []).append(number)
    for numbers in groups.values():
        answers = _answer_alike(version, requests, [batch[number] for number in numbers], metrics)
        for number, answer in zip(numbers, answers, strict=True):
            outcomes[number] = answer if isinstance(answer, Exception) else dump(answer)
    return outcomes


def _answer_alike(
    version: Version, requests: Requests, batch: list[RecommendRequest], metrics: Metrics
) -> list[Mapping[str, Any] | Exception]:
    """Answers requests with equal options."""
    if not batch:
        return []
    queries = [query for request in batch for query in request.queries]
    try:
        results, explaining = _begin_results(version, requests, queries, batch[0].options, metrics)
        deque(explaining, maxlen=0)
    except Refused as e:
        # A batch has requests of several callers. An error in one request must not fail the others.
        owners = [number for number, request in enumerate(batch) for _ in request.queries]
        number = owners[e.row]
        where = "query" if batch[number].single else f"queries[{e.row - owners.index(number)}]"
        other_requests = batch[:number] + batch[number + 1 :]
        answers = _answer_alike(version, requests, other_requests, metrics)
        return [*answers[:number], refused(e, where), *answers[number:]]
    except Exception as e:
        if len(batch) == 1:
            return [e]
        # One request causes the error. Each is answered alone, so that the others get their lists.
        return [_answer_alike(version, requests, [request], metrics)[0] for request in batch]
    head = _head(version, batch[0].options)
    next_result = iter(results)
    return [
        {**head, **next(next_result)}
        if request.single
        else {**head, "results": [next(next_result) for _ in request.queries]}
        for request in batch
    ]


def _head(version: Version, options: ListRequest) -> dict[str, str]:
    """What an answer says of the version."""
    return {"version": version.id} | ({"towers": version.towers} if options.vectors else {})


def answer_parts(
    version: Version, requests: Requests, request: RecommendRequest, most: int, metrics: Metrics
) -> Parts[bytes]:
    """Answers a heavy request part by part. Queries with equal filters are answered together.

    Args:
      most: the most queries of a part.

    Raises:
      Problem: the version cannot answer a query.
    """
    if request.single:
        return dump((yield from answer_one(version, requests, request, metrics)))
    now = datetime.now(version.pipeline.zone)
    by_filter: dict[Filter, list[int]] = {}
    for number, query in enumerate(request.queries):
        by_filter.setdefault(filter_of(query), []).append(number)
    results = [b""] * len(request.queries)
    for same in by_filter.values():
        for begin in range(0, len(same), most):
            numbers = same[begin : begin + most]
            queries = [request.queries[number] for number in numbers]
            try:
                part, explaining = _begin_results(
                    version, requests, queries, request.options, metrics, now
                )
            except Refused as e:
                raise refused(e, f"queries[{numbers[e.row]}]") from e
            yield len(numbers)
            for _ in explaining:
                yield 0
            for number, result in zip(numbers, part, strict=True):
                results[number] = dump(result)
    # Joined from bytes: dumping thousands of lists at once would delay other answers.
    head = orjson.dumps(_head(version, request.options)).removesuffix(b"}")
    return b'%b,"results":[%b]}' % (head, b",".join(results))


def answer_one(
    version: Version, requests: Requests, request: RecommendRequest, metrics: Metrics
) -> Parts[OneAnswer]:
    """Answers a request of one query part by part: the list first, then its explanation.

    Raises:
      Problem: the version cannot answer it.
    """
    try:
        [result], explaining = _begin_results(
            version, requests, request.queries, request.options, metrics
        )
    except Refused as e:
        raise refused(e, "query") from e
    yield 1
    for _ in explaining:
        yield 0
    return cast("OneAnswer", {**_head(version, request.options), **result})


def _begin_results(
    version: Version,
    requests: Requests,
    queries: list[dict[str, Any]],
    options: ListRequest,
    metrics: Metrics,
    now: datetime | None = None,
) -> tuple[Sequence[Result | Encoded], Iterator[None]]:
    """The lists for some queries or their vectors, and an iterator that fills in the lists' `reasons` step
    by step, for a few items at a time.

    Args:
      queries: values by column, as `RequestModel.parse` makes them.

    Raises:
      Problem: the version has no such source.
      Refused: it cannot answer a query; `row` is the query's number.
    """
    if options.vectors:
        return _vectors(version, requests, queries, now), iter(())
    # Asked first, for an error of its own: other UsageErrors are faults of the whole request.
    try:
        version.choose_source(options.source)
    except UsageError as e:
        raise Problem("no_such_source", str(e), where="source") from e
    answer = recommend(version, requests.lay_out(queries), options, now=now)
    # For all lists at once: each operation of NumPy costs microseconds, whatever its size.
    counts = answer.counts.tolist()
    # Rows after the end of a list are -1 and read the last item; `count` cuts them off
    items, sources = version.ids[answer.rows], answer.main_names()
    results = [
        _result(version, query, answer, row, items[row, :count], sources[row, :count], options)
        for row, (query, count) in enumerate(zip(queries, counts, strict=True))
    ]
    _count(results, options, metrics)
    return results, _explain(results, answer)


def _vectors(
    version: Version, requests: Requests, queries: list[dict[str, Any]], now: datetime | None
) -> list[Encoded]:
    moment = now or datetime.now(version.pipeline.zone)
    asked = requests.lay_out(queries)
    # Before stored values are filled in: warnings are about values in the request only.
    unknown = version.vocabularies.unknown(asked)
    table, known = complete(asked, version.users, moment, version.pipeline.history_name)
    vectors = encode_finite(version, table)
    bases = read_bases(version.pipeline, asked, known)
    results: list[Encoded] = []
    for row, query in enumerate(queries):
        result: Encoded = {
            "user": query.get(USER),
            "known": None if known is None else bool(known[row]),
            "based_on": bases[row],
            "vector": np.ascontiguousarray(vectors[row]),
        }
        if row in unknown:
            result["notes"] = list(unknown[row])
        results.append(result)
    return results


def _result(
    version: Version,
    query: Mapping[str, Any],
    answer: Answer,
    row: int,
    items: np.ndarray,
    sources: np.ndarray,
    options: ListRequest,
) -> Result:
    result: Result = {
        "user": query.get(USER),
        "known": None if answer.known is None else bool(answer.known[row]),
        "based_on": answer.bases[row],
        "source": answer.list_sources[row],
        "exclude_seen": version.leaves_out_seen(options.exclude_seen),
        "items": items.tolist(),
        "scores": np.ascontiguousarray(answer.scores[row, : len(items)]),  # orjson takes no others
    }
    if result["source"] != TWO_TOWER:
        result["sources"] = sources.tolist()
    if answer.reasons is not None:
        result["reasons"] = []
    if options.display:
        result["display"] = version.describe(answer.rows[row, : len(items)])
        history = answer.history[row].as_py() if answer.history is not None else None
        result["history"] = version.describe_ids(history or [])[::-1]
    if warnings := answer.warnings.of(row):
        result["notes"] = list(warnings)
    return result


def _count(results: list[Result], options: ListRequest, metrics: Metrics) -> None:
    metrics.unknown_users.inc(
        sum(result["known"] is False and result["user"] is not None for result in results)
    )
    metrics.short_lists.inc(sum(len(result["items"]) < options.k for result in results))
    for source, lists in Counter(result["source"] for result in results).items():
        metrics.lists.labels(source).inc(lists)


def _explain(results: list[Result], answer: Answer) -> Iterator[None]:
    if answer.reasons is None:
        return
    for row, result in enumerate(results):
        count = len(result["items"])
        for begin in range(0, count, _EXPLAINED_AT_ONCE):
            some = slice(begin, min(count, begin + _EXPLAINED_AT_ONCE))
            result["reasons"] += answer.reasons.of(row, some)
            yield


def answer_similar(version: Version, request: SimilarRequest) -> SimilarAnswer:
    """The answer to `/v1/similar`.

    Raises:
      Problem: the item is not in the corpus, or a filter is wrong.
    """
    published = version.published
    if published.rows([request.item])[0] < 0:
        message = (
            f"item must be one of the {len(published.items):,} items of version {version.id}; found"
            f" {shorten(request.item)}."
        )
        if version.rows([request.item])[0] >= 0:
            message += " This item is newer than the version, so it has no vector yet."
        raise Problem("unknown_item", message, where="item")
    try:
        lists = similar(version, request.item, request.options)
    except UsageError as e:
        raise Problem("wrong_type", str(e)) from e
    count = int(lists.counts[0])
    rows = lists.rows[0, :count]
    answer: SimilarAnswer = {
        "version": version.id,
        "item": request.item,
        "items": version.ids[rows].tolist(),
        "scores": np.ascontiguousarray(lists.scores[0, :count]),
    }
    if request.options.display:
        answer["display"] = version.describe(rows)
    if warnings := lists.warnings.of(0):
        answer["notes"] = list(warnings)
    return answer


def dump(answer: Mapping[str, Any]) -> bytes:
    """An answer as JSON."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
