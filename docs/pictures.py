"""Takes the pictures of README and guide, `docs/pictures/`, with headless Chromium.

    make demo
    python docs/pictures.py pipelines/groceries.toml [USER]

They show the report of the live version, the inspector with the list of one of its users, and the
runs of the demo in its Airflow. `words.json` has the words of the code that are seen in each picture: a
test fails once the code no longer says them.
"""

import ast
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from examples.grocery_demo.__main__ import HOME, PIPELINES
from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from twinspire_core.config import pipeline as pipelines
from twinspire_core.contracts.version_manifest import REPORT

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
WORDS = PICTURES / "words.json"
SOURCES = {
    "report": ("index_builder/report", "twinspire_core/display", "twinspire_core/config"),
    "inspector": ("serving/inspector", "twinspire_core/display", "twinspire_core/ranking/groups"),
}
"""Folders of the code that says what pages say."""
_SHORTEST = 5  # letters of words that are compared: shorter ones are in any text
_SEEN = """() => [...document.querySelectorAll('body *')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().top < innerHeight)
    .flatMap(e => [...e.childNodes]).filter(n => n.nodeType == 3).map(n => n.textContent)"""
"""The texts of a page that are seen without scrolling."""
WIDTH = 1280
COLOURS = 128  # of a picture: text and lines need no more, and files stay small
_STARTS_IN = 120  # seconds


def main(file: str, user: str | None = None) -> None:
    """Takes all pictures."""
    pipeline = pipelines.load(Path(file))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        _take_report(browser, Registry(pipeline.registry.root, pipeline.name))
        _take_inspector(browser, file, user)
        _take_airflow(browser, pipeline.name)
        browser.close()


def _take_report(browser: Browser, registry: Registry) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / REPORT
        report.write_bytes(registry.read(registry.find(), REPORT))
        take(_page(browser, report.as_uri(), height=1080), "report")


def _take_inspector(browser: Browser, file: str, user: str | None) -> None:
    with serving(file) as address:
        if user is None:
            found = re.search(r"\?user=([^\"&]+)", httpx.get(address).text)
            assert found, "the version carries users"
            user = found[1]
        take(_page(browser, f"{address}/?user={user}&k=8", height=960), "inspector")


def _take_airflow(browser: Browser, dag: str) -> None:
    with LocalAirflow(HOME, PIPELINES, schedule=False) as airflow:
        airflow.wait_until_healthy()
        page = _page(browser, f"{airflow.url}/dags/{dag}", height=800)
        page.set_default_timeout(_STARTS_IN * 1000)
        page.fill("input[name=username]", airflow.user)
        page.fill("input[name=password]", airflow.password)
        page.click("button[type=submit]")
        page.get_by_text("publish", exact=True).first.wait_for()
        page.get_by_role("separator").first.press("ArrowRight")  # all days of the grid are seen
        page.wait_for_timeout(2000)  # the chart is drawn in steps
        seen = take(page, "airflow")
        tasks = airflow.rest.call("GET", f"dags/{dag}/tasks")["tasks"]
        _store_words("airflow", {task["task_id"] for task in tasks} & {*seen})


def _page(browser: Browser, address: str, height: int) -> Page:
    page = browser.new_page(viewport={"width": WIDTH, "height": height})
    page.goto(address)
    return page


def fixed_words(name: str) -> set[str]:
    """What the code of a page says: texts of its templates, and strings of its modules."""
    files = [file for folder in SOURCES[name] for file in (ROOT / folder).rglob("*")]
    words: list[str] = []
    for file in files:
        if file.suffix == ".jinja":
            words += re.split(r"{[{%#].*?[}%#]}|<[^>]*>", file.read_text(), flags=re.S)
        elif file.suffix == ".py":
            nodes = ast.walk(ast.parse(file.read_text()))
            words += [str(n.value) for n in nodes if isinstance(n, ast.Constant)]
    return {text for word in words if len(text := " ".join(word.split())) >= _SHORTEST}


def _store_words(name: str, words: set[str]) -> None:
    stored = json.loads(WORDS.read_text()) if WORDS.exists() else {}
    text = json.dumps({**stored, name: sorted(words)}, indent=1, ensure_ascii=False)
    WORDS.write_text(text + "\n")


def take(page: Page, name: str) -> list[str]:
    """Takes a picture of what is seen of a page without scrolling, and returns its texts."""
    PICTURES.mkdir(exist_ok=True)
    picture = PICTURES / f"{name}.png"
    page.screenshot(path=picture)
    Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} KB")
    seen = [" ".join(text.split()) for text in page.evaluate(_SEEN)]
    if name in SOURCES:
        _store_words(name, {word for word in fixed_words(name) if word in "\n".join(seen)})
    return seen


@contextmanager
def serving(file: str) -> Iterator[str]:
    """Serves a pipeline's live version; the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "twinspire", "serve", file, "--port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            wait_for(f"{address}/readyz")
            yield address
        finally:
            server.terminate()


def wait_for(address: str) -> None:
    """Waits until a server answers well."""
    until = time.monotonic() + _STARTS_IN
    while True:
        try:
            httpx.get(address).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
