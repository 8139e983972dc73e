"""`twinspire backfill` with a real Airflow, over stages that take no time.

The first tests follow each other, as a week of somebody on call: each goes on from what the ones
before have left. Those at the end each start an Airflow of their own: on a busy machine, and one whose
scheduler is killed.
"""

import contextlib
import json
import os
import subprocess
import sys
from datetime import date, datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from examples.local_airflow.server import LocalAirflow, free_port
from index_builder.registry.registry import Registry
from tests.dags import kills
from tests.dags.conftest import (
    QUICK,
    database_url,
    days_ago,
    days_and_parents,
    until,
    write_program,
)
from twinspire.backfills.airflow_rest import runs_of_days
from twinspire.cli.main import app
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import attempts
from twinspire_core.errors import TwinspireError

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

ZONE = "America/New_York" if datetime.now(ZoneInfo("America/New_York")).hour < 23 else "Asia/Tokyo"


ago = partial(days_ago, ZONE)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, logs_of, pipeline_of):
    """A pipeline file over six days of logs. The fourth day before today is killed in training,
    until there is a file `mended`.
    """
    root = tmp_path_factory.mktemp("shop")
    logs_of(root / "logs", [ago(n) for n in range(1, 7)], ZONE, events=50)
    text = pipeline_of("ten", ZONE, root / "logs") + f'\n[registry]\nroot = "{root}/registry"\n'
    text = text.replace("[pipeline]\n", f'[pipeline]\nwork_root = "{root}/work"\n')
    (root / "pipelines").mkdir()
    (root / "pipelines/ten.toml").write_text(text.replace("retries = 2", "retries = 0"))
    return root / "pipelines/ten.toml"


@pytest.fixture(scope="module")
def airflow(shop):
    root = shop.parents[1]
    env = {
        "TWINSPIRE_PYTHON": write_program(
            root / "python", f'exec "{sys.executable}" "{QUICK}" "$@"'
        ),
        "QUICK_LOGS": str(root / "logs"),
        "QUICK_KILLED": str(ago(4)),
    }
    with LocalAirflow(root / "airflow", shop.parent, schedule=False, env=env) as airflow:
        airflow.wait_until_healthy(timeout=400).wait_for_dag("ten", timeout=200)
        yield airflow


@pytest.fixture
def backfill(shop, airflow):
    """Types the command: its exit code, the JSON of its last line, and what people read."""
    return lambda *options, **login: typed(airflow, shop, *options, **login)


@pytest.fixture
def paused_backfill(backfill, airflow):
    """The same after the DAG was paused, which unpauses it."""

    def run(*options):
        airflow.rest.unpause("ten", paused=True)
        return backfill(*options, "--unpause")

    return run


def typed(airflow, file, *options, user=None, url=None):
    env = {
        "TWINSPIRE_AIRFLOW_URL": url or airflow.url,
        "TWINSPIRE_AIRFLOW_USER": user or airflow.user,
        "TWINSPIRE_AIRFLOW_PASSWORD": airflow.password,
    }
    done = CliRunner().invoke(app, ["backfill", str(file), *map(str, options)], env=env)
    code, error = done.exit_code, done.exception
    if isinstance(error, TwinspireError):
        code = error.exit_code
    lines = done.stdout.splitlines()
    return code, json.loads(lines[-1]) if lines else {}, f"{done.stderr}\n{error}"


def over(first, last, *options):
    return ("--from", ago(first), "--to", ago(last), *options)


def outcomes(result):
    return {one["day"]: one["outcome"] for one in result["days"]}


def registry(shop):
    return Registry(str(shop.parents[1] / "registry"), "ten")


def test_bad_ranges_and_paused_dags_are_refused(backfill):
    code, _, err = backfill(*over(6, 0))
    assert code == 2 and f"Give --to {ago(1)} or an earlier day" in err
    code, _, err = backfill(*over(2, 6))
    assert code == 2 and "--from must not be after --to" in err
    code, _, err = backfill(*over(6, 2))
    assert code == 2 and "ten is paused, so the runs of a backfill would never start" in err


def test_errors_for_a_wrong_address_or_account_name_the_variable(backfill):
    code, _, err = backfill(*over(6, 2), url=f"http://127.0.0.1:{free_port()}")
    assert code == 75 and "TWINSPIRE_AIRFLOW_URL" in err
    code, _, err = backfill(*over(6, 2), user="stranger")
    assert code == 2 and "TWINSPIRE_AIRFLOW_USER" in err


def test_days_run_in_order_and_a_failed_day_fails_the_command(backfill, shop):
    code, out, said = backfill(*over(6, 2, "--unpause", "--wait"))
    assert code == 1
    assert outcomes(out) == {
        str(ago(n)): "failed" if n == 4 else "published" for n in range(6, 1, -1)
    }
    [failed] = [one for one in out["days"] if one["outcome"] == "failed"]
    assert failed["task"] == "train" and failed["page"] in said
    pairs = ((6, None), (5, 6), (3, 5), (2, 3))
    expected = [(ago(day), parent and ago(parent)) for day, parent in pairs]
    assert days_and_parents(registry(shop)) == expected


def test_days_that_have_a_run_are_skipped_with_a_reason(backfill):
    code, out, _ = backfill(*over(6, 2))
    assert (code, out["days"], out["backfill"]) == (0, [], None)
    assert out["left_out"][str(ago(4))] == "its run failed: --redo failed"
    assert out["left_out"][str(ago(5))] == "its run succeeded: --redo all, or --redo stale"
    code, out, _ = backfill(*over(6, 1, "--redo", "failed", "--dry-run"))
    assert (code, out["days"], out["backfill"]) == (0, [str(ago(4)), str(ago(1))], None)


def test_on_sqlite_a_live_dag_is_not_backfilled(backfill, airflow):
    code, out, said = backfill(*over(6, 1, "--redo", "failed", "--unpause"))
    assert (code, out) == (2, {}) and f"Pause it at {airflow.url}/dags/ten" in said
    assert not airflow.rest.call("GET", "dags/ten")["is_paused"]


def test_a_new_backfill_resumes_a_cancelled_one(backfill, paused_backfill, shop, airflow):
    rest = airflow.rest
    (shop.parents[1] / "logs" / "mended").touch()
    code, out, _ = paused_backfill(*over(6, 1, "--redo", "failed"))
    assert code == 0 and out["days"] == [str(ago(4)), str(ago(1))]
    code, _, said = backfill(*over(6, 3))
    assert code == 2 and f"Backfill {out['backfill']} of {ago(6)} to {ago(1)} is running" in said
    code, cancelled, said = backfill("--cancel")
    assert code == 0, said
    assert cancelled["cancelled"] == [out["backfill"]]
    until(lambda: not rest.runs("ten", state=["running", "queued"]))

    # Somebody clears a run of it in the UI, and nothing will ever start that.
    run = runs_of_days(rest, "ten", ago(1), ago(1), ZoneInfo(ZONE))[ago(1)]["dag_run_id"]
    rest.call("POST", f"dags/ten/dagRuns/{run}/clear", json={"dry_run": False})
    code, _, said = backfill(*over(6, 1, "--redo", "failed"))
    assert code == 2 and f"the runs of {ago(1)}, so they stay queued" in said and "--cancel" in said
    assert backfill("--cancel")[1]["cancelled"] == []

    code, out, said = paused_backfill(*over(6, 1, "--redo", "failed", "--wait"))
    assert code == 0, said
    assert str(ago(1)) in outcomes(out) and set(outcomes(out).values()) == {"published"}
    assert (ago(4), ago(5)) in days_and_parents(registry(shop))


def test_redo_stale_runs_only_stale_days(backfill, paused_backfill, shop):
    pipeline = load(shop)
    before = {n: attempts.latest(pipeline, ago(n), "train").uri for n in range(1, 7)}
    part = next((shop.parents[1] / f"logs/events/dt={ago(1)}").iterdir())
    part.rename(part.with_name("mended.parquet"))
    code, out, said = paused_backfill(*over(6, 1, "--redo", "stale", "--wait"))
    assert code == 0, said
    # Of the days before, some are stale since an earlier day was filled in.
    assert str(ago(1)) in outcomes(out) and str(ago(6)) not in outcomes(out)
    after = {n: attempts.latest(pipeline, ago(n), "train").uri for n in range(1, 7)}
    assert after[1] != before[1] and after[6] == before[6]
    code, out, _ = backfill(*over(6, 1, "--redo", "stale"))
    assert (code, out["days"]) == (0, [])
    assert set(out["left_out"].values()) == {"it is not stale"}


FEW = [date(2024, 5, day) for day in range(6, 11)]
OVER_FEW = ("--from", FEW[0], "--to", FEW[-1])
STUB = """
# A stage that does nothing: its day is skipped, but for the one that is held.
echo '{"status": "done", "day": "2024-05-06", "state": "published", "reason": "a stub"}'
case "$3" in
  open-day) [ -n "$HELD" ] || exit 99;;
  features) [ -z "$HELD" ] || { touch "$HELD/begun"; while [ ! -e "$HELD/go" ]; do sleep 0.2; done; };;
esac
"""


@contextlib.contextmanager
def stub_airflow(root, pipeline_of, names, **options):
    """A fresh Airflow over stages that do nothing, with a DAG of each name."""
    (root / "pipelines").mkdir()
    for name in names:
        (root / f"pipelines/{name}.toml").write_text(pipeline_of(name, "UTC", root / "logs"))
    python = write_program(root / "python", STUB)
    env = {"TWINSPIRE_PYTHON": python, "HELD": "", **options.pop("env", {})}
    with LocalAirflow(
        root / "airflow", root / "pipelines", schedule=False, env=env, **options
    ) as airflow:
        rest = airflow.wait_until_healthy(timeout=400)
        for name in names:
            rest.wait_for_dag(name)
        yield airflow


@pytest.fixture
def busy_cores():
    """A process for each core that never rests."""
    line = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(line) for _ in range(os.cpu_count())]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(params=["sqlite"] * 5 + ["postgresql"])
def fresh_database(request):
    yield from database_url(request.param)


def test_backfills_on_a_busy_machine_have_all_tasks(
    fresh_database, busy_cores, tmp_path, pipeline_of
):
    """Six, one right after the other; on PostgreSQL of DAGs that are live."""
    names = [f"shop{n}" for n in range(6)]
    with stub_airflow(tmp_path, pipeline_of, names, database=fresh_database) as airflow:
        rest = airflow.rest
        for name in names:
            if fresh_database:
                rest.unpause(name)
            option = () if fresh_database else ("--unpause",)
            code, _, said = typed(airflow, tmp_path / f"pipelines/{name}.toml", *OVER_FEW, *option)
            assert code == 0, said
            # Its first day begins: the scheduler has looked at it, and lives.
            until(lambda name=name: rest.runs(name, state=["running", "success"]))
            runs = [run["dag_run_id"] for run in rest.runs(name, run_type=["backfill"])]
            tasks = [len(rest.tasks(name, run)) for run in runs]
            assert tasks == [11] * len(FEW), (name, runs, tasks)
            if not fresh_database:
                # The days of many DAGs at work keep SQLite from making another backfill for minutes.
                rest.unpause(name, paused=True)
        # Nothing had to be started again.
        assert "has ended" not in airflow.log.read_text()


def test_a_backfill_continues_after_the_scheduler_is_killed(tmp_path, pipeline_of):
    options = {"env": {"HELD": str(tmp_path)}}
    with stub_airflow(tmp_path, pipeline_of, ["shop"], **options) as airflow:
        file = tmp_path / "pipelines/shop.toml"
        code, out, said = typed(airflow, file, *OVER_FEW, "--unpause")
        assert code == 0, said
        until(lambda: (tmp_path / "begun").exists(), 300)
        kills.parts(airflow)["scheduler"].kill()
        (tmp_path / "go").touch()
        code, ended, said = typed(airflow, file, *OVER_FEW, "--wait")
        assert (code, ended["backfill"]) == (0, out["backfill"]), said
        assert [one["outcome"] for one in ended["days"]] == ["published"] * len(FEW)
        shown = [
            (task["logical_date"][:10], task["rendered_map_index"])
            for run in airflow.rest.runs("shop")
            for task in airflow.rest.tasks("shop", run["dag_run_id"]).values()
            if task["state"] == "success"
        ]
        assert sorted({*shown}) == [(str(day), str(day)) for day in FEW]
    assert airflow.processes() == []
