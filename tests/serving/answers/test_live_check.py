"""`twinspire status --check`, over versions of the circle of twelve items (tests/serving/conftest.py)."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from serving.answers.live_check import check_live
from tests.serving import conftest as circle
from twinspire.cli.main import app
from twinspire_core.config.pipeline import load
from twinspire_core.errors import NothingToDo, Unwell

DAY = "2024-01-01"
NOON = datetime(2024, 1, 2, 3, tzinfo=UTC)  # in Tokyo, twelve hours after the end of the day


@pytest.fixture
def shop(towers, tmp_path, monkeypatch):
    """Publishes a version whose stored users have these histories; messages go to `told`."""

    def publish(histories=(), past=(), exclude_seen=False, user_store=True, max_age="2d"):
        notify = f"[notify]\ncommand = \"cat >> '{tmp_path}/told'\"\n[features]"
        text = circle.PIPELINE.replace("[features]", notify)
        text = text.replace('root = "registry"', f'root = "registry", max_age = "{max_age}"')
        (tmp_path / "circle.toml").write_text(text)
        pipeline = load(tmp_path / "circle.toml")
        if histories:
            rows = [
                {"_user": f"u{n}", "user": f"u{n}", "recent": list(one), "_past": list(past)}
                for n, one in enumerate(histories)
            ]
            table = pa.Table.from_pylist(rows, circle.users().schema)
            monkeypatch.setattr(circle, "users", lambda: table)
        settings = {"serving": {"exclude_seen": exclude_seen}}
        live = circle.publish(
            pipeline, towers, tmp_path / "staged", DAY, user_store, settings=settings
        )
        return pipeline, live

    return publish


def wrong(pipeline, live, now=NOON):
    """What does not pass."""
    return [one.text for one in check_live(pipeline, live, now) if one.problem]


def test_a_version_is_too_old_once_its_day_ended_longer_ago_than_max_age(shop):
    pipeline, live = shop(max_age="13h")
    assert not wrong(pipeline, live)
    [problem] = wrong(pipeline, live, NOON + timedelta(hours=2))
    assert "14 h ago" in problem and "at most 13 h" in problem and "registry.max_age" in problem


def test_an_old_log_may_be_of_any_age_which_is_said_in_years(shop):
    pipeline, live = shop(max_age="0d")
    checks = check_live(pipeline, live, NOON + timedelta(days=3653))
    assert not any(check.problem for check in checks)
    assert checks[0].text.endswith("ended 10 years ago")


ONE_EACH = [[item] for item in circle.ITEMS]


@pytest.mark.parametrize(
    ("histories", "said"),
    [
        (ONE_EACH, None),
        ([["i03"]] * 6 + ONE_EACH[5:9], "6 of 10"),
        ([["i03"]] * 5 + ONE_EACH[5:10], None),
        ([["i03"]] * 5, None),  # too few to be judged
        ([[]] * 12, None),  # who may all get what is popular
    ],
)
def test_most_users_get_lists_of_their_own(shop, histories, said):
    problems = wrong(*shop(histories))
    assert len(problems) == bool(said)
    assert all(f"{said} users get the same list" in problem for problem in problems)


def test_without_stored_users_lists_are_made_for_histories_of_items(shop):
    pipeline, live = shop(user_store=False)
    *_, lists = check_live(pipeline, live, NOON)
    assert "of 20 users" in lists.text and not lists.problem


def test_an_empty_list_is_wrong(shop):
    problems = wrong(*shop(ONE_EACH[:3], past=circle.ITEMS, exclude_seen=True))
    assert problems == ["3 of 4 lists are empty; no list may be"]


def test_a_damaged_version_is_wrong(shop, tmp_path):
    pipeline, live = shop()
    items = tmp_path / f"registry/circle/versions/{live}/items.parquet"
    items.write_bytes(items.read_bytes()[:-1])
    [problem] = wrong(pipeline, live)
    assert "items.parquet" in problem


def test_the_command_notifies_and_ends_with_json(shop, tmp_path):
    command = ["status", str(tmp_path / "circle.toml"), "--check"]
    _, live = shop()
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, Unwell) and Unwell.exit_code == 5
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["status"], line["exit_code"], line["version"]) == ("Unwell", 5, live)
    assert [one["passed"] for one in line["checks"]] == [False, True]  # it is of 2024
    report = json.loads((tmp_path / "told").read_text())
    assert (report["event"], report["day"], report["stage"]) == ("unwell", DAY, "status")
    assert report["reason"] == line["reason"] and "twinspire status" in report["reason"]

    (tmp_path / "told").unlink()
    file = tmp_path / "circle.toml"
    file.write_text(file.read_text().replace('"2d"', '"99999d"'))
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and not (tmp_path / "told").exists()
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "well"


def test_nothing_live_is_nothing_to_do(tmp_path):
    (tmp_path / "circle.toml").write_text(circle.PIPELINE)
    done = CliRunner().invoke(app, ["status", str(tmp_path / "circle.toml"), "--check"])
    assert isinstance(done.exception, NothingToDo) and "is live yet" in str(done.exception)
