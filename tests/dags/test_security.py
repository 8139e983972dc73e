"""Who is let in by a real Airflow, and what hostile names and parameters can do to it.

Airflow is asked twice: with the accounts of `make airflow`, and with those of docker/compose.yaml. Both times it takes
any name of a run, which by its default it does not, so that the names reach our own lines.
"""

import contextlib
import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from airflow_client.client.exceptions import ApiException

from examples.local_airflow.server import LocalAirflow, LocalRest
from tests.dags.conftest import QUICK, write_program

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
WORKS, EMPTY = (datetime.now(UTC).date() - timedelta(days=n) for n in (2, 3))
# What needs no login: whether Airflow is well, and the way to log in.
OPEN = {
    f"get /api/v2/{path}" for path in ("monitor/health", "version", "auth/login", "auth/logout")
}


def until(true, seconds=600):
    """Waits for something that is true, which is returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):  # a busy machine answers late
            if result := true():
                return result
        time.sleep(1)
    raise AssertionError("it did not happen")


@pytest.fixture(scope="module")
def home(tmp_path_factory, logs_of, pipeline_of):
    """Logs and the file of a recommender; `made` is a file that nobody may create, `messages` the notifications."""
    root = tmp_path_factory.mktemp("hostile")
    logs_of(root / "logs", [EMPTY, WORKS], "UTC", events=50, empty=[EMPTY])
    text = pipeline_of("shop", "UTC", root / "logs")
    text = text.replace("[pipeline]\n", f'[pipeline]\nwork_root = "{root}/work"\n')
    text = text.replace("retries = 2", "retries = 0")
    text += f'\n[registry]\nroot = "{root}/registry"\n'
    text += f"[notify]\ncommand = \"cat >> '{root}/messages'; echo >> '{root}/messages'\"\n"
    (root / "pipelines").mkdir()
    (root / "pipelines/shop.toml").write_text(text)
    write_program(root / "python", f'exec "{sys.executable}" "{QUICK}" "$@"')
    return root


@pytest.fixture(scope="module", params=["simple", "fab"])
def airflow(request, home):
    """A running Airflow with the accounts admin and eve, who may only look."""
    env = {
        "TWINSPIRE_PYTHON": str(home / "python"),
        "QUICK_LOGS": str(home / "logs"),
        "MADE": str(home / "made"),
        "AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN": "(?s).+",
    }
    if request.param == "fab":
        env["AIRFLOW__CORE__AUTH_MANAGER"] = FAB
    else:
        env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = "admin:admin,eve:viewer"
    started = LocalAirflow(home / request.param, home / "pipelines", schedule=False, env=env)
    with started as airflow:
        end = time.monotonic() + 300
        while airflow.rest.trouble():
            assert time.monotonic() < end, airflow.log_end()
            time.sleep(0.5)
        if request.param == "fab":
            for name, role in (("chief", "Admin"), ("eve", "Viewer")):
                add_account(airflow, name, role)
            airflow.rest = LocalRest(airflow.url, "chief", "chief's password")
            airflow.eve = LocalRest(airflow.url, "eve", "eve's password")
        else:
            passwords = json.loads((airflow.home / "passwords.json").read_text())
            airflow.eve = LocalRest(airflow.url, "eve", passwords["eve"])
        airflow.rest.wait_for_dag("shop", timeout=200)
        yield airflow
        airflow.eve.close()


def add_account(airflow, name, role):
    """As docker/compose.yaml makes its administrator."""
    line = ["airflow", "users", "create", "--role", role, "--username", name]
    line += ["--password", f"{name}'s password", "--firstname", name, "--lastname", name]
    line += ["--email", f"{name}@localhost"]
    subprocess.run(line, env=airflow._env, check=True, capture_output=True)


def test_nothing_is_shown_or_done_without_a_login(airflow):
    with httpx.Client(base_url=airflow.url, timeout=120, trust_env=False) as nobody:
        paths = nobody.get("/openapi.json").json()["paths"]
        assert len(paths) > 50
        let_in = set()
        for path, methods in paths.items():
            filled = re.sub(r"\{.+?\}", "shop", path)
            for method in methods:
                if nobody.request(method, filled).status_code not in (401, 403):
                    let_in.add(f"{method} {path}")
        assert let_in == OPEN
        for path in ("/ui/dags", "/ui/config", "/ui/dashboard/dag_stats", "/ui/backfills"):
            assert nobody.get(path).status_code in (401, 403), path
        assert "shop" not in nobody.get("/").text


def test_a_viewer_looks_and_changes_nothing(airflow):
    eve = airflow.eve
    assert eve.call("GET", "dags/shop")["is_paused"]
    body = {"logical_date": None, "conf": {}}
    day = {"from_date": f"{EMPTY}T00:00:00Z", "to_date": f"{EMPTY}T00:00:00Z"}
    for method, path, content in (
        ("POST", "dags/shop/dagRuns", body),
        ("PATCH", "dags/shop", {"is_paused": False}),
        ("DELETE", "dags/shop", None),
        ("POST", "backfills", {"dag_id": "shop", **day, "max_active_runs": 1}),
        ("POST", "dags/shop/clearTaskInstances", {"dry_run": False}),
        ("POST", "variables", {"key": "x", "value": "y"}),
        ("POST", "connections", {"connection_id": "x", "conn_type": "http"}),
        ("POST", "pools", {"name": "x", "slots": 1}),
    ):
        with pytest.raises(ApiException) as error:
            eve.call(method, path, json=content)
        assert error.value.status == 403, (method, path)
    assert airflow.rest.call("GET", "dags/shop")["is_paused"]
    assert airflow.rest.runs("shop") == []


TOUCH = "touch $MADE"
HOSTILE = [
    *(f"'; {TOUCH}; '", f"$({TOUCH})", f"`{TOUCH}`", f"\n{TOUCH}\n", f'"; {TOUCH} #', f"x;{TOUCH}"),
    f"{{{{ ''.__class__ }}}}{{% set x = 1 %}}$({TOUCH})",
    "../../../" + "x" * 90,
    "x" * 250,
]
"""What a shell, a template or a file system would do something with."""


def test_hostile_parameters_are_refused_at_the_trigger(airflow, home):
    values = [*HOSTILE, "x" * 500_000, ["2024-01-01"], {"x": 1}]
    values += [f"2024-01-01{value}" for value in HOSTILE]
    for name in ("day", "mode", "promote", "force", "late", "refresh"):
        for value in values:
            with pytest.raises(ApiException) as error:
                airflow.rest.trigger("shop", **{name: value})
            assert error.value.status in (400, 413, 422), (name, value)


def trigger(rest, run_id, **conf):
    body = {"logical_date": None, "conf": conf, "dag_run_id": run_id}
    rest.call("POST", "dags/shop/dagRuns", json=body)


def ended(rest):
    """How each run has ended, by its name, once all have."""
    states = {run["dag_run_id"]: run["state"] for run in rest.runs("shop")}
    return set(states.values()) <= {"success", "failed"} and states


def test_hostile_run_ids_and_parameters_are_plain_text_to_tasks(airflow, home):
    rest = airflow.rest
    rest.unpause("shop")
    let_in = set()
    for value in HOSTILE:
        try:
            trigger(rest, value, day=str(EMPTY))
        except ApiException as error:
            assert error.status in (400, 422), value
        else:
            let_in.add(value)
    through_all = f"all of '; {TOUCH}; $({TOUCH}) `{TOUCH}` {{{{ 7 * 7 }}}}"
    trigger(rest, through_all, day=str(WORKS))
    # And keys that nobody asked for.
    key = f"'; {TOUCH}; $({TOUCH})\0{{{{ 7 }}}}" + "x" * 300_000
    unknown = {"key 0": {key: 1}, "key 1": {"__class__": "x"}, "key 2": {"day ": str(EMPTY)}}
    for run, conf in unknown.items():
        trigger(rest, run, **conf)
    states = until(lambda: ended(rest))
    assert states.keys() == {*let_in, *unknown, through_all}
    assert states[through_all] == "success"
    assert {states[run] for run in unknown} == {"failed"}
    # Airflow itself stumbles over some of the names.
    assert sum(states[run] == "success" for run in let_in) >= 5, states
    assert not (home / "made").exists()
    run = quote("key 1", safe="")
    assert rest.tasks("shop", run)["day"]["try_number"] == 1
    assert "__class__" in rest.log("shop", run, "day")
    for line in (home / "messages").read_text().splitlines():
        assert len(line) < 2000 and json.loads(line)["reason"] != "None"


def test_an_edited_xcom_is_plain_text_to_tasks(airflow, home):
    rest = airflow.rest
    trigger(rest, "plain", day=str(EMPTY))
    until(lambda: ended(rest))
    entry = "dags/shop/dagRuns/plain/taskInstances/day/xcomEntries/return_value"
    with pytest.raises(ApiException) as error:
        airflow.eve.call("PATCH", entry, json={"value": {"day": "2024-01-01"}})
    assert error.value.status == 403
    rest.call("PATCH", entry, json={"value": {"day": f"$({TOUCH})"}})
    body = {"dag_run_id": "plain", "task_ids": ["summary"], "dry_run": False, "only_failed": False}
    rest.call("POST", "dags/shop/clearTaskInstances", json=body)
    assert until(lambda: ended(rest))["plain"] == "failed"
    assert "touch" in rest.log("shop", "plain", "summary", attempt=2)
    assert not (home / "made").exists()
