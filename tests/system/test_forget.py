import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serving.http.server_settings import Settings
from tests.serving.http.conftest import answering
from tests.system.days import SECOND, THIRD, attempt, twinspire
from tests.traces import holders
from twinspire.runs import run_leases
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import forgotten_users


def whom(pipeline: Path) -> str:
    """A held-out user whose lists are shown, so that they are in as many places as anybody can be."""
    lists = json.loads((attempt(pipeline, SECOND, "measure") / "examples.json").read_text())
    with_past = [one for one in lists if one["past_events"]]
    return with_past[0]["user"]


def known(pipeline: Path, user: str) -> tuple[bool, str]:
    """How the server answers a user: whether it knows them, and what it went by."""
    with answering(load(pipeline), Settings()) as client:
        answer = client.post("/v1/recommend", json={"query": {"user": user}}).json()
    return answer["known"], answer["based_on"]


def test_a_forgotten_user_is_in_no_file_from_the_next_version_on(shop):
    user, other = whom(shop), "u000"
    work, registry = shop.parent / "work", shop.parent / "registry"
    stored = holders(registry, user)
    places = {Path(place).parts[2] for place in holders(work, user)}
    assert places >= {"features", "train", "embed"}, "else nothing is tried"
    assert any("partials" in place for place in holders(work, user))
    assert any("report.html" in place for place in stored)
    before = twinspire("status", str(shop), "--json")["days"]
    assert known(shop, user) == (True, "stored_user")

    # Without --yes nothing changes
    dry = twinspire("forget", str(shop), "--user", user, "--json")
    assert dry["changed"] and dry["deleted"] and dry["deleted_bytes"] and not dry["forgotten"]
    assert not (registry / "shop/forgotten").exists()
    assert holders(work, user)

    outcome = twinspire("forget", str(shop), "--user", user, "--yes", "--json")
    assert not holders(work, user), "whatever keeps a user has to know how to forget one"
    assert (outcome["changed"], outcome["deleted"]) == (dry["changed"], dry["deleted"])
    assert holders(registry, user) == stored
    assert {one["version"] for one in outcome["versions"]} == {Path(f).parts[2] for f in stored}
    assert [one["live"] for one in outcome["versions"]] == [False, True]
    assert user not in json.dumps(outcome)
    # What is published stays so
    assert [day["state"] for day in twinspire("status", str(shop), "--json")["days"][:2]] == [
        day["state"] for day in before[:2]
    ]
    for stage in ("train", "embed"):  # what they read is gone
        outcome = twinspire(stage, str(shop), "--date", SECOND, check=2)
        assert "needs the output of features" in outcome["reason"]

    twinspire("run", str(shop), "--date", THIRD)
    assert not holders(work, user)
    assert holders(registry, user) == stored, "the new version has nothing of them"
    assert known(shop, user) == (False, "nothing")
    assert known(shop, other)[0]
    # A day that is run again does not bring them back
    assert twinspire("features", str(shop), "--date", SECOND)["status"] == "done"
    assert not holders(work, user) and holders(registry, user) == stored
    assert holders(work, other)


@pytest.mark.system
def test_a_forgotten_user_is_in_no_object_of_a_store(remote_shop, tmp_path):
    p = load(remote_shop)

    def objects(root: str) -> list[str]:
        with TemporaryDirectory(dir=tmp_path) as folder:
            return holders(storage.localize(root, Path(folder)), "u001")

    work, registry = p.pipeline.work_root, p.registry.root
    stored = objects(registry)
    assert stored and objects(work), "else nothing is tried"
    outcome = twinspire("forget", str(remote_shop), "--user", "u001", "--yes", "--json")
    assert outcome["changed"] and not objects(work)
    twinspire("run", str(remote_shop), "--date", THIRD)
    assert not objects(work)
    assert objects(registry) == stored, "the new version has nothing of them"
    assert known(remote_shop, "u001") == (False, "nothing")


def test_during_a_run_forget_only_extends_the_list(shop):
    user, p = whom(shop), load(shop)
    run_leases.acquire_day(p, date.fromisoformat(THIRD), "airflow")
    before = holders(shop.parent / "work", user)
    outcome = twinspire("forget", str(shop), "--user", user, "--yes", check=75)
    assert THIRD in outcome and "same command again" in outcome
    assert holders(shop.parent / "work", user) == before
    assert user in forgotten_users.find(p)


def test_forget_without_users_is_a_clear_error(shop):
    assert "--users-from FILE" in twinspire("forget", str(shop), "--yes", check=2)
    assert "cannot be read" in twinspire("forget", str(shop), "--users-from", "/none", check=2)


def test_ids_can_come_from_a_file(shop, tmp_path):
    (tmp_path / "ids").write_text("u001\nu002\n\n")
    outcome = twinspire("forget", str(shop), "--users-from", str(tmp_path / "ids"), "--json")
    assert outcome["users"] == 2 and outcome["changed"]
