"""Servers on the circle of twelve items (tests/serving/conftest.py), asked over real
connections.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from serving.app import create_app, server_config
from serving.http.server_settings import Settings
from tests.serving import conftest as circle
from twinspire_core.config.pipeline import Pipeline, load

FAST = Settings(poll=0.05, max_k=100, max_queries=20, max_body=20_000)


def shop(folder: Path) -> Pipeline:
    """The pipeline in its own folder."""
    (folder / "circle.toml").write_text(circle.PIPELINE)
    return load(folder / "circle.toml")


def until(condition, seconds: float = 60) -> None:
    """Waits for what happens in another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@contextmanager
def running(app: FastAPI, **client) -> Iterator[httpx.Client]:
    """Serves an application meanwhile; yields what asks it."""
    config = server_config(app, app.state.service.settings, port=0, log_level="warning")
    config.timeout_graceful_shutdown = 5
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, **client) as asking:
            yield asking
    finally:
        server.should_exit = True
        thread.join()


def ready(client: httpx.Client) -> httpx.Client:
    until(lambda: client.get("/readyz").status_code == 200)
    return client


@contextmanager
def answering(pipeline: Pipeline, settings: Settings = FAST) -> Iterator[httpx.Client]:
    """The same of a pipeline whose live version is loaded."""
    with running(create_app(pipeline, settings)) as asking:
        yield ready(asking)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("circle")


@pytest.fixture(scope="module")
def client(home, towers) -> Iterator[httpx.Client]:
    """Asks a server of one version with users, attributes and popularity, by its two-tower. It stays for
    the module.
    """
    pipeline = shop(home)
    circle.publish(pipeline, towers, home / "staged", nominators={})
    with answering(pipeline) as asking:
        yield asking


def publish_named(pipeline: Pipeline, towers: Path, folder: Path, letter: str, day: str) -> str:
    """Publishes a version whose items are `a00`, `a01`, … for the letter a."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circle, "ITEMS", [f"{letter}{n:02d}" for n in range(12)])
        return circle.publish(pipeline, towers, folder / f"staged-{letter}", day)
