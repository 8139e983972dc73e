"""Secrets of the environment are in nothing that a day leaves behind: files, versions, reports, messages."""

import json

import pytest

from tests import warm
from tests.system.days import THIRD
from tests.traces import holders
from twinspire_core.config.pipeline import load

SECRET = "s3cr3t"
NAMES = str.split("""TWINSPIRE_TOKEN TWINSPIRE_AIRFLOW_PASSWORD TWINSPIRE_AIRFLOW_TOKEN
 AIRFLOW__DATABASE__SQL_ALCHEMY_CONN AIRFLOW__CORE__FERNET_KEY AIRFLOW_CONN_DATABASE
 AWS_SECRET_ACCESS_KEY ALERTS_URL PAGER""")

pytestmark = pytest.mark.system


def test_no_secret_of_the_environment_is_written_anywhere(shop, tmp_path, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, f"https://user:{SECRET}-{name}@example.com/hook")
    account = {"type": "service_account", "private_key": f"{SECRET}-key", "client_email": "x@y"}
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    # A command that fails and shows what it was called with, as wget does, and curl on a bad address.
    table = '\n[notify]\ncommand = "echo cannot reach $ALERTS_URL or ${PAGER} >&2; exit 7"\n'
    shop.write_text(shop.read_text() + table)
    assert SECRET in load(shop).notify.command, "the file's own variables are in the command itself"

    said = ""
    commands = (
        ("run", "--date", THIRD),
        ("run", "--date", "2024-05-01"),  # without logs: sends a notification
        ("notify",),
        ("report",),
        ("show", "--json"),
        ("status", "--json"),
        ("doctor",),
    )
    for command, *options in commands:
        code, out, err = warm.run(command, str(shop), *options)
        assert code in (0, 1, 75), err
        said += f"{command}: {out}{err}\n"
    assert said.count("exit code 7") == 2, "the command was run, and its failure told"
    assert "$ALERTS_URL" in said and "$PAGER" in said
    assert SECRET not in said, said[said.index(SECRET) - 500 :][:600]
    for name in ("work", "registry"):
        assert holders(shop.parent / name, SECRET) == []
        assert holders(shop.parent / name, "example.com/hook") == []
