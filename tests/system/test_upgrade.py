"""From the last release to this code and back, with a live Airflow, a backfill that is half done and
servers that keep running: what docs/operations.md tells people to do, and what it promises.

The tests follow each other, as the days of somebody who upgrades: each goes on from what the ones
before have left.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

from examples.local_airflow.server import LocalAirflow, free_port
from index_builder.registry.version_log import version_date
from tests.shop import lay_out
from tests.system.days import ROOT, registry_of
from twinspire.backfills.airflow_backfills import active_backfills, cancel_backfill, start_backfill
from twinspire_core.contracts.artifact_files import REPORT
from twinspire_core.contracts.manifest import FILE, Manifest

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

LAST_RELEASE = "5f043203b87e2b34e36f7e9fedfd376e6e67b88f"  # 0.2.0
ZONE = ZoneInfo("Europe/Berlin")
DAYS = [date(2024, 3, 9) + timedelta(days=n) for n in range(7)]
# The backfill's, which this code ends; the one that the last release makes of a parent of this
# code; and the one that this code makes after that.
BACKFILLED, BACK, FORTH = DAYS[:5], DAYS[5], DAYS[6]
PATIENCE = 900  # seconds


class Release:
    """The code of a release, run by the libraries of this environment."""

    def __init__(self, code: Path) -> None:
        self.code = code
        self.env = {"PYTHONPATH": str(code)}
        self.command = [sys.executable, "-m", "twinspire"]

    @contextmanager
    def airflow(self, shop: Path) -> Iterator[LocalAirflow]:
        """Airflow over its DAGs, with the database that the other releases' have left."""
        env = self.env | {"AIRFLOW__CORE__DAGS_FOLDER": str(self.code / "dags")}
        home = shop.parents[1] / "airflow"
        with LocalAirflow(home, shop.parent, schedule=False, env=env) as airflow:
            airflow.wait_until_healthy(timeout=400).wait_for_dag("shop", timeout=200)
            yield airflow

    def run(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Types a command."""
        line = [*self.command, *map(str, arguments)]
        env = os.environ | self.env | env
        return subprocess.run(line, cwd=self.code, env=env, capture_output=True, text=True)

    @contextmanager
    def server(self, shop: Path) -> Iterator[httpx.Client]:
        """A server of what is live, once it answers."""
        port = free_port()
        line = [*self.command, "serve", str(shop), "--port", str(port)]
        with (shop.parents[1] / f"server-{port}.log").open("w") as log:
            process = subprocess.Popen(line, cwd=self.code, env=os.environ | self.env, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                until(lambda: process.poll() is not None or ready(client))
                yield client
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def new() -> Release:
    """This code."""
    return Release(ROOT)


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Release:
    """The last release's, out of the history."""
    code = tmp_path_factory.mktemp("last release")
    archive = subprocess.run(
        ["git", "archive", LAST_RELEASE], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"the history has no {LAST_RELEASE[:7]}, the last release: a shallow clone?")
    subprocess.run(["tar", "--extract", "--directory", code], input=archive.stdout, check=True)
    assert "No such command" in Release(code).run("status").stderr, "it is this code that runs"
    return Release(code)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("upgraded") / "pipelines", days=15)


@pytest.fixture(scope="module")
def servers(shop, old, new):
    """Servers that run to the end, by release: `old` from the first, `new` from the upgrade on."""
    running = {}
    with ExitStack() as stack:

        def start(name):
            release = {"old": old, "new": new}[name]
            running[name] = stack.enter_context(release.server(shop))

        yield start, running


@pytest.fixture
def everybody_serves(shop, servers):
    """Looks whether all servers answer from the newest version."""
    _, running = servers

    def look():
        live = registry_of(shop).live()
        for client in running.values():
            until(lambda client=client: told(client)["version"] == live, seconds=180)
            answer = client.post("/v1/recommend", json={"query": {"user": "u004"}, "k": 5}).json()
            assert (answer["version"], len(answer["items"])) == (live, 5)
            assert told(client)["failure"] is None
        return version_date(live)

    return look


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def told(client: httpx.Client) -> dict:
    return client.get("/v1/version").json()


def days_and_parents(shop: Path) -> list[tuple[date, date | None]]:
    """Of what was published, in order."""
    book = registry_of(shop)
    manifests = [book.manifest(entry.version) for entry in book.log()]
    return [(m.date, version_date(m.parent) if m.parent else None) for m in manifests]


def line_of(days: list[date]) -> list[tuple[date, date | None]]:
    """Each day once, in order, and each from the one before."""
    return list(zip(days, [None, *days[:-1]], strict=True))


def until(true, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(1)


def test_a_backfill_of_the_last_release_is_left_half_done(shop, old, servers, everybody_serves):
    with old.airflow(shop) as airflow:
        rest = airflow.rest
        number = start_backfill(rest, "shop", BACKFILLED[0], BACKFILLED[-1], zone=ZONE)
        rest.unpause("shop")
        until(lambda: len(registry_of(shop).log()) == 2)
        cancel_backfill(rest, number)
        # The day that has begun comes to its end.
        until(lambda: not rest.runs("shop", state="running"))
    made = days_and_parents(shop)
    assert made == line_of(BACKFILLED[: len(made)]) and 2 <= len(made) <= 3
    start, _ = servers
    start("old")
    assert everybody_serves() == BACKFILLED[len(made) - 1]


def test_this_code_ends_it(shop, new, servers, everybody_serves):
    before = registry_of(shop).log()
    with new.airflow(shop) as airflow:
        airflow.rest.unpause("shop", paused=True)
        done = new.run(
            *("backfill", shop, "--from", BACKFILLED[0], "--to", BACKFILLED[-1]),
            *("--redo", "failed", "--unpause", "--wait"),
            TWINSPIRE_AIRFLOW_URL=airflow.url,
            TWINSPIRE_AIRFLOW_USER=airflow.user,
            TWINSPIRE_AIRFLOW_PASSWORD=airflow.password,
        )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    rest_of_days = [str(day) for day in BACKFILLED[len(before) :]]
    assert [(one["day"], one["outcome"]) for one in said["days"]] == [
        (day, "published") for day in rest_of_days
    ]
    assert days_and_parents(shop) == line_of(BACKFILLED)
    assert registry_of(shop).log()[: len(before)] == before
    start, _ = servers
    start("new")
    assert everybody_serves() == BACKFILLED[-1]


def test_the_last_release_stops_at_a_key_that_came_later(shop, old):
    text = shop.read_text()
    shop.write_text(text + '[monitor]\nmax_age = "2d"\n')
    told = old.run("versions", shop)
    shop.write_text(text)
    assert told.returncode == 2 and "monitor" in told.stderr


def test_the_last_release_goes_on_from_a_parent_of_this_code(shop, old, everybody_serves):
    with old.airflow(shop) as airflow:
        # Ended, which the scheduler looks for every half minute
        until(lambda: not active_backfills(airflow.rest, "shop"))
        airflow.rest.unpause("shop", paused=True)
        start_backfill(airflow.rest, "shop", BACK, BACK, zone=ZONE)
        airflow.rest.unpause("shop")
        *_, runs = airflow.rest.watch(lambda: airflow.rest.runs("shop"))
    assert runs[-1]["state"] == "success"
    assert days_and_parents(shop) == line_of([*BACKFILLED, BACK])
    assert everybody_serves() == BACK


def test_this_code_takes_up_all_days_again(shop, new, everybody_serves):
    before = registry_of(shop).log()
    done = new.run("run", shop, "--from", DAYS[0], "--to", FORTH)
    assert done.returncode == 0, done.stderr
    assert registry_of(shop).log()[:-1] == before
    assert days_and_parents(shop) == line_of([*BACKFILLED, BACK, FORTH])
    assert everybody_serves() == FORTH


def test_the_last_release_makes_a_day_of_this_code_anew(shop, old):
    done = old.run("run", shop, "--from", FORTH, "--to", FORTH, "--promote", "no")
    assert done.returncode == 0, done.stderr
    assert [day for day, _ in days_and_parents(shop)] == [*DAYS, FORTH]


def test_a_version_of_a_newer_format_is_said_of_and_not_served(shop, servers, tmp_path):
    """As of a release to come, which neither server knows."""
    book = registry_of(shop)
    served = book.live()
    publish_in_a_newer_format(book, tmp_path / "staged")
    _, running = servers
    for client in running.values():
        until(lambda client=client: told(client)["failure"], seconds=180)
        assert told(client)["version"] == served
        assert "newer release" in told(client)["failure"]["error"]
    book.rollback(reason="of a newer format")
    for client in running.values():
        until(lambda client=client: told(client)["failure"] is None, seconds=180)
        assert told(client)["version"] == served


def publish_in_a_newer_format(book, staged):
    """The live version once more, with another id and number of the format."""
    described = book.manifest(book.live())
    unlike = shutil.ignore_patterns(FILE, REPORT)
    shutil.copytree(book.open(described.version), staged, ignore=unlike)
    fields = described.model_dump(exclude={"pipeline", "date", "version", "files"})
    newer = Manifest.create(
        pipeline=described.pipeline,
        day=described.date,
        files={path: file for path, file in described.files.items() if path != REPORT},
        edition=2,
        **fields | {"format_version": described.format_version + 1},
    )
    book.publish(str(staged), newer, accepted=True, reason="of a later release")
