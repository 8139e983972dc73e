"""The container files, as far as they can be checked without an engine; tests/docker/test_containers.py runs
them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker import compose_file

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = (DOCKER / "compose.yaml").read_text()
VALUES = {key: f"of-{key.lower()}" for key in compose_file.ASKED} | {"LOGS": "/srv/logs"}

# In a process of its own: importing Airflow sets up folders, logging and a database's URL.
ASK_AIRFLOW = """
import json
from airflow.cli.cli_config import ActionCommand, GroupCommand
from airflow.cli.cli_parser import airflow_commands
from airflow.configuration import conf
options = {f"{s}.{o}".lower() for s, d in conf.configuration_description.items() for o in d["options"]}
commands = [c.name if isinstance(c, ActionCommand) else f"{c.name} {s.name}"
            for c in airflow_commands for s in (c.subcommands if isinstance(c, GroupCommand) else [c])]
print(json.dumps([sorted(options), commands]))
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    return compose_file.project(tmp_path_factory.mktemp("compose"), VALUES)["services"]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Options and commands of the installed Airflow."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))}
    done = subprocess.run(
        [sys.executable, "-c", ASK_AIRFLOW], env=env, capture_output=True, text=True, check=True
    )
    return tuple(map(set, json.loads(done.stdout.splitlines()[-1])))


def test_every_airflow_setting_exists(airflow):
    named = re.findall(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+?)(?:=|:)", DOCKERFILE + COMPOSE)
    assert len(named) > 8
    assert {f"{section}.{option}".lower() for section, option in named} <= airflow[0]


def test_every_airflow_command_exists(airflow, services):
    commands = [s["command"] for s in services.values() if s["image"] == "twinspire"]
    lines = [command for command in commands if command[0] == "airflow"]
    # `users` is the auth manager's, and is listed where that is switched on.
    scripts = [line for command in commands for line in command if "airflow db" in line]
    lines += [line.split() for line in scripts[0].splitlines() if line.startswith("airflow db")]
    assert len(lines) == 5
    for command in lines:
        assert " ".join(command[1:3]) in airflow[1] or command[1] in airflow[1]


@pytest.mark.parametrize("file", ["Dockerfile", "dataflow/Dockerfile"])
def test_hadolint_reports_nothing(file):
    program = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: make setup brings it")
    done = subprocess.run([program, DOCKER / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("missing", compose_file.ASKED)
def test_nothing_starts_without_a_value_for(missing, tmp_path):
    done = compose_file.read(tmp_path, {k: v for k, v in VALUES.items() if k != missing})
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value: see env.example" in done.stderr


def test_every_variable_is_explained_and_no_secret_has_a_default():
    needed = set(re.findall(r"\$\{(\w+):\?", COMPOSE)) | set(
        re.findall(r"environment: (\w+) }", COMPOSE)
    )
    defaults = set(re.findall(r"\$\{(\w+):-", COMPOSE))
    stores = set(re.findall(r"(?m)^  ([A-Z_]+):$", COMPOSE))
    assert needed == set(compose_file.ASKED)
    assert defaults | stores == set(re.findall(r"(?m)^#([A-Z_]+)=", compose_file.EXAMPLE))
    assert not re.findall(r"PASSWORD|TOKEN|SECRET|KEY", " ".join(defaults))
    assert not re.findall(r"(?i)(?:password|secret|token|key)\w*: *[a-z0-9]", COMPOSE)


def test_keys_of_object_stores_reach_what_reads_them_and_nothing_else(services):
    has_it = {name for name, s in services.items() if "AWS_REGION" in s.get("environment", {})}
    airflow = {"init", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert has_it == airflow | {"serving"}


def test_ports_are_local_by_default(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert {port["target"] for port in ports} == {80, 443, 3000, 8080, 9090}


def test_public_services_do_not_reach_the_database(services):
    near = {name for name, s in services.items() if "default" in s["networks"]}
    assert "postgres" in near
    assert not near & {"proxy", "prometheus", "grafana"}


def test_services_have_health_checks_and_few_rights(services):
    assert "HEALTHCHECK" in DOCKERFILE.split(" AS serving\n")[1].split("\nFROM ")[0]
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        if name not in ("postgres", "gs"):  # these change to their own account by themselves
            assert service["cap_drop"] == ["ALL"], name
        if name != "init":
            assert "healthcheck" in service or name == "serving", name
            assert service["restart"] == "unless-stopped", name


def test_images_run_as_an_account_with_a_number():
    assert re.findall(r"(?m)^USER (.*)", DOCKERFILE) == ["50000:50000"] * 3


def test_copied_files_exist():
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE)
    sources = [source for line in copied for source in line.split()]
    assert "dags" in sources and all((ROOT / source).exists() for source in sources)
    for place in re.findall(r"(?m)^ +- \./(\S+?):", COMPOSE):
        assert (DOCKER / place).exists(), place
