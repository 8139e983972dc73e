"""Requests, answered by one version: batches of them, heavy ones part by part, and `/v1/similar`."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from serving.answers.similar import similar
from serving.http.answer_models import OneAnswer, Result, SeveralAnswers, SimilarAnswer
from serving.http.bodies import refused
from serving.http.http_errors import Problem
from serving.http.micro_batching import Outcome, Parts
from serving.http.prometheus import Metrics
from serving.http.request_models import RecommendRequest, SimilarRequest
from serving.http.results import begin_results
from serving.requests.list_request import ListRequest
from serving.requests.query_rows import Requests
from serving.requests.request_model import Refused, filter_of
from serving.version.filters import Filter
from serving.version.loaded_version import Version
from twinspire_core.errors import UsageError, shorten


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
