"""The HTTP paths for programs, and the objects that they share: live version, batches, events, metrics.
serving/inspector/router.py has the paths for people.
"""

from asyncio import Future
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from weakref import finalize

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from serving.http import http_errors, openapi
from serving.http.answer_bodies import answer_batch, answer_parts, answer_similar, dump
from serving.http.bodies import BodyParser, RecommendRequest, SimilarRequest, parse_body, read_body
from serving.http.events import MOST, EventFeed, EventsBody, parse_events
from serving.http.hot_swap import LiveVersion, Served, warm
from serving.http.http_errors import Problem
from serving.http.micro_batching import Batcher, Outcome, Parts, while_connected
from serving.http.openapi import (
    BODY,
    EventsAnswer,
    OneAnswer,
    OneEncoded,
    SeveralAnswers,
    SeveralEncoded,
    SimilarAnswer,
    VersionAnswer,
    VersionFacts,
)
from serving.http.prometheus import CONTENT_TYPE, Metrics
from serving.http.server_settings import Settings
from serving.requests.query_rows import Requests
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.search.top_k import CORES

_Request = TypeVar("_Request")


class Service:
    """The live version of one recommender, and the objects that answer from it.

    Attributes:
      live: follows the registry; `live.current` is the version that answers.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.metrics = Metrics()
        self.requests = Requests(pipeline)
        self.parser = BodyParser(self.requests.model, settings)
        # A version gets all events that the server has received before it begins to answer.
        self.live = LiveVersion(
            pipeline,
            self.open,
            lambda version: self.events.follow(version, warm),
            self.metrics,
            settings.poll,
        )
        self.events = EventFeed(
            settings.max_events, settings.max_new_items, self.live.grow, self.metrics
        )
        self.batcher = Batcher(
            self._answer,
            self._answer_parts,
            self.metrics,
            most=settings.max_batch,
            pending=settings.max_pending,
            # More threads would wait for Python's lock: more cores need more server processes.
            threads=min(2, CORES),
        )

    def start(self) -> None:
        """Starts the threads that follow the registry, feed events and answer batches."""
        self.live.start()
        self.batcher.start()
        self.events.start()

    def stop(self) -> None:
        """Answers waiting requests, then ends."""
        # The batcher before the live version, which it needs for the last answers.
        self.events.stop()
        self.batcher.stop()
        self.live.stop()

    def open(self, version: str) -> Version:
        """Opens any version of the pipeline and verifies its digests."""
        opened = Version.open(self.pipeline, version)
        # When the version is freed, the live version's thread must collect its TensorFlow graphs.
        finalize(opened, self.live.dropped.set)
        return opened

    def served(self) -> Served:
        """What answers now. Take it once per answer, because it may change at any time.

        Raises:
          Problem: no version answers yet.
        """
        if self.live.current is None:
            raise Problem(
                "not_ready", f"No version of {self.pipeline.name} answers yet: {self.waiting()}."
            )
        return self.live.current

    @property
    def version(self) -> Version:
        """The version that answers now; see `served`."""
        return self.served().version

    def waiting(self) -> str:
        """Why no version answers."""
        if self.live.loading:
            return f"{self.live.loading} is being loaded"
        if self.live.failure:
            subject = self.live.failure["version"] or "the registry"
            return f"{subject} cannot be read: {self.live.failure['error']}"
        return (
            "none is live. `twinspire run PIPELINE --date DATE` makes one, `twinspire versions"
            " PIPELINE` lists all"
        )

    def _answer(self, batch: Sequence[RecommendRequest]) -> list[Outcome]:
        return answer_batch(self.version, self.requests, batch, self.metrics)

    def _answer_parts(self, request: RecommendRequest, most: int) -> Parts[bytes]:
        # All parts are answered by one version, even if another one goes live meanwhile.
        return (yield from answer_parts(self.version, self.requests, request, most, self.metrics))

    def similar(self, request: SimilarRequest) -> "Future[bytes]":
        """The future body of the answer to `/v1/similar`, like `Batcher.submit`.

        Raises:
          Problem: too many requests wait.
        """
        return self.batcher.submit_parts(self._similar_parts(request), 1)

    def _similar_parts(self, request: SimilarRequest) -> Parts[bytes]:
        yield from ()  # makes it a generator, of one part
        return dump(answer_similar(self.version, request))

    def describe(self) -> VersionAnswer:
        """The live version, and why a newer one could not be loaded."""
        served = self.live.current
        facts: VersionFacts = {}
        if served:
            version = served.version
            manifest = version.manifest
            facts = {
                "day": str(manifest.date),
                "corpus_date": str(manifest.corpus_date or manifest.date),
                "refreshes": manifest.refreshes,
                "since": served.since.isoformat(timespec="seconds"),
                "items": manifest.items,
                "new_items": len(version.items) - len(version.published.items),
                "dimension": manifest.dimension,
                "parent": manifest.parent,
                "users": version.users.count() if version.users is not None else None,
                "sources": version.sources,
                "exclude_seen": version.exclude_seen,
                "index": version.index.settings.kind,
                "notes": version.warnings,
            }
        return {
            "pipeline": self.pipeline.name,
            "version": served.version.id if served else None,
            **facts,
            "loading": self.live.loading,
            "failure": self.live.failure,
        }


class _PlainRoute(APIRoute):
    """A route whose function takes the request and returns the response. FastAPI documents it, but spends
    no time on solving dependencies for each request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        return self.endpoint


def asking(service: Service) -> APIRouter:
    """The paths that return lists, and the path for live events."""
    made = APIRouter(tags=["ask"], route_class=_PlainRoute)
    parser = service.parser

    @made.post(
        "/v1/recommend",
        summary="Items for a user, or for several",
        openapi_extra=openapi.body(
            parser.one_query | parser.several_queries,
            {
                "a stored user": {"query": {"user": "u1"}, "k": 10},
                "raw features and a history": {
                    "query": service.requests.model.example(),
                    "k": 50,
                    "exclude_seen": True,
                },
                "an unknown user": {"query": {}},
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
        """Returns the best items for one `query`, or for each of several `queries`.

        A query names a stored user, or describes a user by raw features and a history. Every key is
        optional. For an unknown user only the query counts: `known` is false, and `based_on` says what
        the list is based on.
        """
        return await _respond(request, service, parser.recommend, service.batcher.submit)

    @made.post(
        "/v1/encode",
        summary="The vector of a query, or of several",
        openapi_extra=openapi.body(
            parser.encode_body,
            {
                "a stored user": {"query": {"user": "u1"}},
                "raw features and a history": {"query": service.requests.model.example()},
                "several at once": {
                    "queries": [{"user": "u1"}, {"history": ["item1", "item2"]}],
                },
            },
        ),
        responses=openapi.responses(
            "Vectors, in the order of the queries.", OneEncoded | SeveralEncoded, *BODY
        ),
        response_class=Response,
    )
    async def encode(request: Request) -> Response:
        """Returns the query tower's vector of one `query`, or of each of several `queries`, to search an
        exported catalogue by inner product. A query has the keys of `/v1/recommend`; `exclude`,
        `allow` and `deny` do not change a vector. There are no options.
        """
        return await _respond(request, service, parser.encode, service.batcher.submit)

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
        """Returns the items whose vectors are nearest to an item's vector, without the item itself. Scores
        are cosines.
        """
        return await _respond(request, service, parser.similar, service.similar)

    @made.post(
        "/v1/events",
        summary="Live events",
        openapi_extra=openapi.body(
            EventsBody,
            {
                "as they happen": {
                    "events": [{"item": "item1", "user": "user1"}, {"item": "item2"}]
                },
                "with a time": {"events": [{"item": "item1", "time": "2024-04-15T09:30:00+02:00"}]},
            },
        ),
        responses=openapi.responses("Counts of the events.", EventsAnswer, *BODY),
        response_class=Response,
    )
    async def events(request: Request) -> Response:
        """Adds events to the counts of the live version. Within a second, lists of its source `popular` and
        of the fixed order use them. If one event of a body is wrong, none of them counts.

        A server keeps events only while it runs, and servers do not share them. Send each event to all
        servers, and today's events again to a server that has restarted.
        """
        parse = partial(parse_events, zone=service.pipeline.zone, now=datetime.now(UTC))
        sent = await parse_body(parse, await _read(request, service), 2 * MOST)
        return _json(
            orjson.dumps(await run_in_threadpool(service.events.take, service.version, sent))
        )

    return made


def watching(service: Service) -> APIRouter:
    """The paths for the health of the server and the live version."""
    made = APIRouter(tags=["watch"])

    @made.get(
        "/v1/version",
        summary="The live version",
        responses=openapi.responses(
            "The live version, and why a newer one could not be loaded.", VersionAnswer, 401, 421
        ),
        response_class=Response,
    )
    async def version() -> Response:
        """The live version and its sources, the version that is being loaded, and why the newest version
        could not be loaded.
        """
        return _json(orjson.dumps(service.describe()))

    @made.get("/healthz", summary="Is the process alive?", response_class=Response)
    async def healthz() -> Response:
        """200 while the process runs. Restart the process if this path does not answer."""
        return _json(b'{"status":"alive"}')

    @made.get(
        "/readyz",
        summary="Does it answer?",
        responses=openapi.problems(503),
        response_class=Response,
    )
    async def readyz() -> Response:
        """200 once a version is loaded and has answered warm-up queries. Send traffic only then."""
        return _json(orjson.dumps({"status": "ready", "version": service.version.id}))

    @made.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Requests, errors, latency, batch sizes, the live version and its swaps, in Prometheus'
        text format.
        """
        return Response(await service.metrics.newest_text(), media_type=CONTENT_TYPE)

    for path, answer in (("/healthz", healthz), ("/readyz", readyz)):  # as some balancers ask
        made.head(path, include_in_schema=False)(answer)
    return made


async def _respond(
    request: Request,
    service: Service,
    parse: Callable[[dict[str, Any]], _Request],
    submit: Callable[[_Request], "Future[bytes]"],
) -> Response:
    content = await _read(request, service)
    wanted = await parse_body(parse, content, service.parser.most_objects)
    # If no version answers yet, say so at once, and not after the requests that wait.
    service.served()
    return _json(await while_connected(request, submit(wanted)))


async def _read(request: Request, service: Service) -> bytes:
    settings = service.settings
    return await read_body(request, settings.max_body, settings.client_timeout)


def _json(content: bytes) -> Response:
    return Response(content, media_type=http_errors.JSON)
