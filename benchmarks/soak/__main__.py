"""Many days in a row with a part killed on each: whether every day is published once and comes out as if
nothing had happened, whether Airflow's memory stays flat, and the disk within bounds.

    python -m benchmarks.soak --days 30 --seed 1
    python -m benchmarks.soak --days 5                     a quick one
    python -m benchmarks.soak --json soak.json             the figures go there, too

Those of a run are in benchmarks/soak/results.json.

Airflow runs on a PostgreSQL of its own (Debian's binaries), with its parts apart, each started again when it
has ended. By the seed, one of them, the worker of a stage, the stage itself or PostgreSQL is killed by
SIGKILL on each day, in one of the six stages, so many seconds after that stage has begun. After each day
`twinspire prune` runs. The same days are run by `twinspire run` in another place, undisturbed and never
pruned, and compared.
"""

import argparse
import json
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

from benchmarks.quality.command import machine, write_whole
from benchmarks.soak.days import TWINSPIRE, Day, plan, run_day
from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import Entry, version_date
from tests.dags import postgres
from tests.dags.conftest import pipeline_text, write_logs
from twinspire_core.config.pipeline import load

FIRST = date(2024, 3, 4)
SETTINGS = {  # those of the local Airflow are meant for days that take hours
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
}


def lay_out(folder: Path, logs: Path) -> Path:
    """A pipeline file over the logs, with working files and registry beside it."""
    text = "\n".join(line.strip() for line in pipeline_text("soak", "UTC", logs).splitlines())
    text += "\n[registry]\nkeep_versions = 3\nkeep_days = 5\n"
    folder.mkdir()
    (folder / "soak.toml").write_text(text)
    return folder / "soak.toml"


def log_of(file: Path, last: date) -> list[Entry]:
    """What was published, refused and made live up to a day, in order."""
    pipeline = load(file)
    log = Registry(pipeline.registry.root, pipeline.name).log()
    return [e for e in log if e.action != "prune" and version_date(e.version) <= last]


def equal(file: Path, other: Path, last: date) -> bool:
    """Whether two registries tell the same story, up to a day. A version's id is the digest of what
    it holds.
    """
    ours, theirs = log_of(file, last), log_of(other, last)
    pipeline = load(file)
    Registry(pipeline.registry.root, pipeline.name).verify(ours[-1].version)
    return [(e.action, e.version, e.live) for e in ours] == [
        (e.action, e.version, e.live) for e in theirs
    ]


def soak(days: int, seed: int, folder: Path) -> dict:
    """Runs all of it, or as many days as there are until Ctrl-C; returns the figures."""
    dates = [FIRST + timedelta(n) for n in range(days)]
    history = [FIRST - timedelta(n) for n in range(3, 0, -1)]
    write_logs(folder / "logs", history + dates, "UTC", events=1000)
    file = lay_out(folder / "killed", folder / "logs")
    calm = lay_out(folder / "calm", folder / "logs")
    rows: list[Day] = []
    with ExitStack() as stack:
        database = stack.enter_context(postgres.server())
        airflow = LocalAirflow(
            folder / "airflow",
            file.parent,
            schedule=False,
            database=database.url,
            restarts=days,
            env=SETTINGS,
        )
        rest = stack.enter_context(airflow).wait_until_healthy(timeout=300)
        rest.wait_for_dag("soak")
        rest.unpause("soak")
        # Beside it, for Airflow waits for most of the time, and in order.
        undisturbed = stack.enter_context(
            subprocess.Popen(
                [*TWINSPIRE, "run", str(calm), "--from", str(dates[0]), "--to", str(dates[-1])],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
            )
        )
        with suppress(KeyboardInterrupt):
            for day, kill in zip(dates, plan(days, seed), strict=True):
                rows.append(run_day(airflow, database, file, day, kill))
                print(line(rows[-1]), flush=True)
                if rows[-1].state != "success":
                    break
        undisturbed.wait()
    done = dates[: len(rows)]
    published = [e.version[:10] for e in log_of(file, done[-1]) if e.action == "publish"]
    return {
        "days": len(done),
        "seed": seed,
        "published_once": published == [str(day) for day in done],
        "equal": equal(file, calm, done[-1]),
        "rows": [asdict(row) for row in rows],
    }


def line(row: Day) -> str:
    """A row of the table."""
    kill = f"{row.kill.kind} in {row.kill.stage}, {row.kill.after:.1f} s"
    memory = "  ".join(f"{name} {value}" for name, value in sorted(row.rss_mb.items()))
    return (
        f"{row.day}  {kill if row.killed else 'nothing':30} {row.state:8} {row.seconds:6.1f} s "
        f"{row.retries} retries  {row.disk_mb:5.1f} MB  {memory}"
    )


def main() -> None:
    """Prints a row for each day, then the verdict."""
    about = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    about.add_argument("--days", type=int, default=30)
    about.add_argument("--seed", type=int, default=1)
    about.add_argument("--json", type=Path, help="where the figures go, too")
    options = about.parse_args()
    with tempfile.TemporaryDirectory(prefix="twinspire-soak-") as made:
        figures = {"machine": machine(), **soak(options.days, options.seed, Path(made))}
    print({name: figures[name] for name in ("days", "published_once", "equal")})
    if options.json:
        write_whole(options.json, json.dumps(figures, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
