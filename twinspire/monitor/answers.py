"""The questions, asked over HTTP: of a server, or of the server's own code in this process."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from serving.app import create_app
from serving.http.server_settings import Settings
from twinspire.monitor.questions import K, Question
from twinspire_core.config.pipeline import Pipeline

_LOADING = 600.0
"""Seconds that a version may take to be loaded in this process, on `gs://` to be fetched too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    Attributes:
      question: what was asked.
      seconds: until the answer was there.
      version: that answered; None where none did.
      items: ids, best first.
      scores: theirs; None for what is no number.
      problem: why there is no list; empty where there is one.
    """

    question: Question
    seconds: float
    version: str | None = None
    items: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()
    problem: str = ""


@asynccontextmanager
async def connection(pipeline: Pipeline, token: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `monitor.server`; without one, of the same application in this process, which
    listens nowhere.
    """
    seconds = pipeline.monitor.timeout.total_seconds()
    if pipeline.monitor.server:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(
            base_url=pipeline.monitor.server, headers=headers, timeout=seconds
        ) as client:
            yield client
        return
    app = create_app(pipeline, Settings(poll=0.1))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            base_url="http://127.0.0.1", transport=transport, timeout=seconds
        ) as client,
    ):
        await _wait_until_loaded(client)
        yield client


async def _wait_until_loaded(client: httpx.AsyncClient) -> None:
    end = time.monotonic() + _LOADING
    while time.monotonic() < end:
        told = await describe(client)
        if told["version"] or told["failure"]:
            return
        await anyio.sleep(0.05)


async def describe(client: httpx.AsyncClient) -> dict[str, Any]:
    """What `/v1/version` says.

    Raises:
      httpx.HTTPError: it does not answer, or refuses.
      ValueError: what answers is no server of ours.
    """
    answer = (await client.get("/v1/version")).raise_for_status().json()
    if not (isinstance(answer, dict) and {"pipeline", "version", "failure"} <= answer.keys()):
        raise ValueError(f"{client.base_url}v1/version is no answer of `twinspire serve`")
    return answer


async def ask(client: httpx.AsyncClient, question: Question) -> Answer:
    """Asks one question."""
    started = time.perf_counter()
    try:
        reply = await client.post("/v1/recommend", json={"query": question.query, "k": K})
        seconds = time.perf_counter() - started
        body = reply.json()
        if reply.is_error:
            return Answer(question, seconds, problem=_refusal(reply.status_code, body))
        return Answer(
            question, seconds, body["version"], tuple(body["items"]), tuple(body["scores"])
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        seconds = time.perf_counter() - started
        return Answer(question, seconds, problem=f"no list: {type(error).__name__}: {error}")


def _refusal(status: int, body: Any) -> str:
    message = body.get("error", {}).get("message", "") if isinstance(body, dict) else ""
    return f"it answered {status}. {message}"
