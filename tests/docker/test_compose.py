"""The container files, as far as they can be checked without a container engine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]

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
def airflow(tmp_path_factory):
    """Options and commands of the installed Airflow."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))}
    done = subprocess.run(
        [sys.executable, "-c", ASK_AIRFLOW], env=env, capture_output=True, text=True, check=True
    )
    return tuple(map(set, json.loads(done.stdout.splitlines()[-1])))


def test_every_setting_is_one_that_airflow_has(airflow):
    named = re.findall(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+?)(?:=|:)", DOCKERFILE + COMPOSE)
    assert len(named) > 8
    assert {f"{section}.{option}".lower() for section, option in named} <= airflow[0]


def test_every_component_is_a_command_that_airflow_has(airflow):
    commands = [service["command"] for service in SERVICES.values() if "command" in service]
    assert len(commands) == 5
    for command in commands:
        assert command[0] == "airflow"
        assert " ".join(command[1:3]) in airflow[1] or command[1] in airflow[1]


def test_every_secret_must_be_given_and_is_explained():
    needed = set(re.findall(r"\$\{(\w+)", COMPOSE))
    explained = set(re.findall(r"^(\w+)=$", (ROOT / "docker" / "env.example").read_text(), re.M))
    assert needed == explained
    assert needed == set(re.findall(r"\$\{(\w+):\?", COMPOSE))


def test_only_this_machine_reaches_the_ui():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_is_made_of_what_is_there():
    copied = [
        source
        for line in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", DOCKERFILE, re.M)
        for source in line.split()
    ]
    assert copied and all((ROOT / source).exists() for source in copied)
    for folder in re.findall(r"/opt/twinspire/(\w+)", DOCKERFILE + COMPOSE):
        assert (ROOT / folder).is_dir()
