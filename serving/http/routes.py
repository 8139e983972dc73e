"""The paths for programs; serving/inspector/router.py has those for people."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from serving.http import body_reading, http_errors, openapi
from serving.http.connection import while_connected
from serving.http.events import EventsBody, parse_events
from serving.http.openapi import (
    BODY,
    EventsAnswer,
    OneAnswer,
    SeveralAnswers,
    SimilarAnswer,
    VersionAnswer,
)
from serving.http.prometheus import CONTENT_TYPE
from serving.http.service import Service
from serving.version.event_buffer import Events


class _PlainRoute(APIRoute):
    """A route whose function takes the request and returns the response. FastAPI documents it, and has
    no dependencies to solve at each request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        return self.endpoint


def asking(service: Service) -> APIRouter:
    """The paths that answer with lists, and the one that takes live events."""
    made = APIRouter(tags=["ask"], route_class=_PlainRoute)
    parser = service.parser

    @made.post(
        "/v1/recommend",
        summary="Items for a user, or for several",
        openapi_extra=openapi.body(
            parser.one_query | parser.several_queries,
            {
                "a user that the version knows": {"query": {"user": "u1"}, "k": 10},
                "raw features and a history": {
                    "query": service.requests.model.example(),
                    "k": 50,
                    "exclude_seen": True,
                },
                "anybody, now": {"query": {}},
                "several at once": {
                    "queries": [{"user": "u1"}, {"history": ["item1", "item2"]}],
                    "k": 20,
                },
            },
        ),
        responses=openapi.responses(
            "Lists, in the order of the queries.", OneAnswer | SeveralAnswers, *BODY, 409
        ),
        response_class=Response,
    )
    async def recommend(request: Request) -> Response:
        """Lists the best items for one `query`, or for each of several `queries`.

        A query names a user that the version knows, or describes one by raw features and a history;
        every key may be left out. A user that the version does not know is answered from what the
        query says alone: `known` is false, and `based_on` says what the list is based on instead.
        """
        wanted = await body_reading.parse(parser.recommend, await _read(request, service))
        # If no version answers yet, say so at once, and not after the requests that wait.
        service.check_ready()
        return _json(await while_connected(request, service.batcher.submit(wanted)))

    @made.post(
        "/v1/similar",
        summary="Items like an item",
        openapi_extra=openapi.body(
            parser.similar_body, {"nearest to an item": {"item": "item1", "k": 10}}
        ),
        responses=openapi.responses("The nearest items, best first.", SimilarAnswer, *BODY, 404),
        response_class=Response,
    )
    async def similar(request: Request) -> Response:
        """Lists the items whose vectors are nearest to an item's own, itself aside; scores are
        cosines.
        """
        wanted = await body_reading.parse(parser.similar, await _read(request, service))
        service.check_ready()
        return _json(await while_connected(request, service.similar(wanted)))

    @made.post(
        "/v1/events",
        summary="What users take, as it happens",
        openapi_extra=openapi.body(
            EventsBody,
            {
                "as they happen": {
                    "events": [{"item": "item1", "user": "user1"}, {"item": "item2"}]
                },
                "those of before": {
                    "events": [{"item": "item1", "time": "2024-04-15T09:30:00+02:00"}]
                },
            },
        ),
        responses=openapi.responses("What came of them.", EventsAnswer, *BODY),
        response_class=Response,
    )
    async def events(request: Request) -> Response:
        """Counts what users took since the live version was made: within a second the lists of its
        source `popular`, and the fixed order that has it, use it. All of a body counts, or nothing.

        A server forgets events when it ends, and servers do not pass them on: send each event to
        all of them, and those of today again to one that has begun.
        """

        def parser(content: bytes) -> Events:
            return parse_events(content, service.pipeline.zone, datetime.now(UTC))

        sent = await body_reading.parse(parser, await _read(request, service))
        return _json(orjson.dumps(await run_in_threadpool(service.take, sent)))

    return made


def watching(service: Service) -> APIRouter:
    """The paths that say how the server is and which version answers."""
    made = APIRouter(tags=["watch"])

    @made.get(
        "/v1/version",
        summary="What answers",
        responses=openapi.responses(
            "What answers, and what is wrong with what should.", VersionAnswer, 401, 421
        ),
        response_class=Response,
    )
    async def version() -> Response:
        """The live version, what it can do, the one that is being loaded, and why the newest one
        could not be.
        """
        return _json(orjson.dumps(service.describe()))

    @made.get("/healthz", summary="Is the process alive?", response_class=Response)
    async def healthz() -> Response:
        """Always 200 while the process runs. Restart it when this does not answer."""
        return _json(b'{"status":"alive"}')

    @made.get(
        "/readyz",
        summary="Does it answer?",
        responses=openapi.problems(503),
        response_class=Response,
    )
    async def readyz() -> Response:
        """200 once a version is loaded and has answered warm-up queries; send it traffic from then
        on.
        """
        return _json(orjson.dumps({"status": "ready", "version": service.version.id}))

    @made.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Requests, errors, latency, batch sizes, the live version and its swaps, in Prometheus'
        text format.
        """
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    for path, answer in (("/healthz", healthz), ("/readyz", readyz)):  # as some balancers ask
        made.head(path, include_in_schema=False)(answer)
    return made


async def _read(request: Request, service: Service) -> bytes:
    settings = service.settings
    return await body_reading.read(request, settings.max_body, settings.client_timeout)


def _json(content: bytes) -> Response:
    return Response(content, media_type=http_errors.JSON)
