"""Pipeline files as Airflow reads them, and small synthetic logs with pipeline files over them for
real runs.
"""

import json
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from index_builder.registry.registry import Registry
from index_builder.registry.version_log import version_date
from tests.dags import postgres
from twinspire.backfills.airflow_rest import DONE

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"
QUICK = Path(__file__).parent / "quick_stages.py"
GROUPS = 6
PATIENCE = 1200  # seconds; all of test_live or test_matrix takes about 200 on two idle cores


def days_ago(zone: str, days: int) -> date:
    return datetime.now(ZoneInfo(zone)).date() - timedelta(days=days)


def until(true, seconds=PATIENCE):
    """Waits for something that is true, which is returned."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.5)
    return found


def write_program(file: Path, *lines: str) -> str:
    """Writes a shell script, which stages may be run by instead of Python: its path."""
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(0o755)
    return str(file)


def quick_for(*names: str) -> str:
    """A line of such a script: the stages of these pipelines take no time."""
    files = "|".join(f"*/{name}.toml" for name in names)
    return f'case "$4" in {files}) exec "{sys.executable}" "{QUICK}" "$@";; esac'


REAL = f'exec "{sys.executable}" "$@"'


def days_and_parents(book: Registry) -> list[tuple[date, date | None]]:
    """The day of each version in the order of publication, and of its parent."""
    manifests = [book.manifest(entry.version) for entry in book.log()]
    return [(m.date, version_date(m.parent) if m.parent else None) for m in manifests]


def finish(rest, dag, **query):
    """A DAG's runs, once they have all ended."""
    end = time.monotonic() + PATIENCE
    for found in rest.poll(lambda: rest.runs(dag, **query)):
        assert time.monotonic() < end, [(run["dag_run_id"], run["state"]) for run in found]
        if found and all(run["state"] in DONE for run in found):
            return found
    return None


def write_logs(
    folder: Path,
    days,
    zone: str,
    *,
    users: int = 300,
    items: int = 60,
    events: int = 1500,
    empty=(),
    few=(),
):
    """Events of people who mostly take items of one group; one snapshot of the items before the
    first day.

    Args:
      days: dates that get a partition.
      empty: those of them without a row.
      few: those of them with a handful of rows.
    """
    for day in days:
        rng = np.random.default_rng(day.toordinal())
        n = 0 if day in empty else 5 if day in few else events
        user = rng.integers(users, size=n)
        loyal = rng.random(n) < 0.9
        item = np.where(
            loyal,
            user % GROUPS + GROUPS * rng.integers(items // GROUPS, size=n),
            rng.integers(items, size=n),
        )
        midnight = datetime.combine(day, datetime.min.time(), ZoneInfo(zone)).timestamp()
        time = (1000 * (midnight + np.sort(rng.uniform(0, 86_000, n)))).astype("int64")
        home = folder / "events" / f"dt={day}"
        home.mkdir(parents=True, exist_ok=True)
        columns = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "time": time}
        pl.DataFrame(
            columns, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}
        ).write_parquet(home / "part.parquet")
    ids, groups = [f"i{i}" for i in range(items)], [f"g{i % GROUPS}" for i in range(items)]
    home = folder / "items" / f"dt={min(days) - timedelta(days=1)}"
    home.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"item": ids, "group": groups}).write_parquet(home / "part.parquet")


def pipeline_text(name: str, zone: str, logs: Path) -> str:
    """A pipeline file with one small tower on each side."""
    return f"""
        source = {{ events = "{logs}/events/dt={{date}}/", items = "{logs}/items/dt={{date}}/" }}
        columns = {{ user = "user", item = "item", time = "time", time_unit = "ms" }}
        window = {{ history_days = 3, count_days = 2, train_days = 2 }}
        corpus = {{ display = ["group"] }}
        train = {{ dimension = 8, batch_size = 64 }}
        evaluation = {{ ks = [5, 10] }}
        [pipeline]
        name = "{name}"
        time_zone = "{zone}"
        retries = 2
        [features]
        item = {{ kind = "id", tower = "item" }}
        group = {{ kind = "category", tower = "item" }}
        sold = {{ kind = "count", days = 2 }}
        history = {{ kind = "history", length = 5 }}
        [gate]
        metric = "recall@10"
        max_drop = 1.0
        min_users = 5
    """


@pytest.fixture(scope="session")
def logs_of():
    """`write_logs`."""
    return write_logs


@pytest.fixture(scope="session")
def pipeline_of():
    """`pipeline_text`, flush left."""
    return lambda *args: "\n".join(line.strip() for line in pipeline_text(*args).splitlines())


@pytest.fixture(scope="session")
def write():
    """Writes a pipeline file of which DAGs see all: its header."""
    return _header


def _header(file, **header):
    file.write_text(
        "[pipeline]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in header.items())
    )


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """A function from a pipelines folder to the DagBag that Airflow makes of it."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        from airflow.dag_processing.dagbag import DagBag

        def parse(pipelines):
            patch.setenv("TWINSPIRE_PIPELINES", str(pipelines))
            return DagBag(dag_folder=str(DAGS))

        yield parse


@pytest.fixture(scope="module")
def bag(load, tmp_path_factory):
    """Two pipelines of our own, and the shipped ones."""
    folder = tmp_path_factory.mktemp("pipelines")
    for shipped in (ROOT / "pipelines").glob("*.toml"):
        (folder / shipped.name).write_text(shipped.read_text())
    _header(folder / "tokyo.toml", name="tokyo", time_zone="Asia/Tokyo")
    own = {"time_zone": "Europe/Berlin", "schedule": "30 4 * * *", "retries": 7}
    _header(folder / "late-riser.toml", name="late-riser", **own)
    loaded = load(folder)
    assert loaded.import_errors == {}
    return loaded


def database_url(kind):
    """Yields the URL of an empty database; None for Airflow's own SQLite."""
    if kind == "sqlite":
        yield None
        return
    if not postgres.BINARIES:
        pytest.skip("PostgreSQL is not installed where Debian has it")
    with postgres.running() as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request):
    yield from database_url(request.param)
