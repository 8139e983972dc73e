"""What the monitor finds well and what it alerts at, over versions of the circle of twelve items
(tests/serving/conftest.py): opened by itself, and behind a real server.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from examples.local_airflow.server import free_port
from serving.app import create_app
from serving.http.server_settings import Settings
from tests.serving import conftest as circle
from tests.serving.conftest import towers  # noqa: F401
from tests.serving.http.conftest import ready, running
from twinspire.cli.main import app
from twinspire.monitor.answers import Answer
from twinspire.monitor.check import check, list_problems
from twinspire.monitor.questions import Question
from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.errors import NothingToDo, Unwell

DAY = "2024-01-01"
NOON = datetime(2024, 1, 2, 3, tzinfo=UTC)  # in Tokyo, twelve hours after the end of the day
QUICK = "max_latency_ms = 60_000"  # whatever else this machine does


def shop(folder: Path, *limits: str) -> Pipeline:
    """The circle's pipeline with limits of the monitor; messages go to `told`."""
    notify = f"command = \"cat >> '{folder}/told'; echo >> '{folder}/told'\""
    tables = "\n".join(["[monitor]", *(limits or [QUICK]), "[notify]", notify, "[features]"])
    (folder / "circle.toml").write_text(circle.PIPELINE.replace("[features]", tables))
    return load(folder / "circle.toml")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in a folder, with when it was written and its size."""
    return {
        str(place.relative_to(folder)): (place.stat().st_mtime_ns, place.stat().st_size)
        for place in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def home(towers, tmp_path_factory):  # noqa: F811
    """A folder whose registry has one live version."""
    folder = tmp_path_factory.mktemp("live")
    circle.publish(shop(folder), towers, folder / "staged", DAY)
    return folder


def test_a_live_version_is_asked_where_there_is_no_server_and_nothing_is_written(home):
    pipeline = shop(home)
    before = files(home)
    health = check(pipeline, now=NOON)
    assert files(home) == before
    assert health.problems == ()
    # Nobody, a stranger, anna, ben and cat, and as many made-up users as the monitor asks for.
    assert health.lists == 2 + 3 + pipeline.monitor.users
    assert (str(health.day), health.age) == (DAY, timedelta(hours=12))
    assert 0 < health.median_ms <= health.worst_ms


def test_an_old_version_is_told_and_what_it_answers_as_well(home):
    health = check(shop(home, QUICK, 'max_age = "1d"'), now=NOON + timedelta(hours=13))
    [problem] = health.problems
    assert "at most 24 h ago" in problem and "25 h ago" in problem
    assert health.lists > 20


def test_a_slow_version_is_told(home):
    [problem] = check(shop(home, "max_latency_ms = 0.001"), now=NOON).problems
    assert "monitor.max_latency_ms" in problem


def test_nothing_live_is_nothing_to_do(tmp_path):
    with pytest.raises(NothingToDo, match="No version of circle is live yet"):
        check(shop(tmp_path), now=NOON)


def test_a_damaged_version_is_told(towers, tmp_path):  # noqa: F811
    pipeline = shop(tmp_path)
    version = circle.publish(pipeline, towers, tmp_path / "staged", DAY)
    items = tmp_path / f"registry/circle/versions/{version}/items.parquet"
    items.write_bytes(items.read_bytes()[:-1])
    [problem] = check(pipeline, now=NOON).problems
    assert problem.startswith("Nothing answers") and "items.parquet" in problem


@pytest.fixture(scope="module")
def server(home):
    """The address of a server of that version, which asks for a token."""
    settings = Settings(poll=0.05, tokens=("secret",))
    authorization = {"authorization": "Bearer secret"}
    with running(create_app(shop(home), settings), headers=authorization) as client:
        yield str(ready(client).base_url)


def test_a_server_is_asked_with_its_token(home, server):
    health = check(shop(home, f'server = "{server}"', QUICK), "secret", NOON)
    assert (health.problems, health.server) == ((), server)
    assert health.lists == 25
    [problem] = check(shop(home, f'server = "{server}"'), "wrong", NOON).problems
    assert "401" in problem and "TWINSPIRE_TOKEN" in problem


def test_a_server_that_is_not_there_is_told_beside_what_the_registry_says(home):
    nowhere = f'server = "http://127.0.0.1:{free_port()}"'
    health = check(shop(home, nowhere, 'max_age = "1h"'), now=NOON)
    old, unreachable = health.problems
    assert "monitor.max_age" in old and "ConnectError" in unreachable
    assert (health.lists, health.median_ms) == (0, None)


def test_a_server_of_another_recommender_or_of_none_is_told(home, server, tmp_path):
    other = shop(home, f'server = "{server}"', QUICK).model_copy(
        update={"pipeline": load(home / "circle.toml").pipeline.model_copy(update={"name": "oval"})}
    )
    circle_log = home / "registry/circle"
    (home / "registry/oval").symlink_to(circle_log)
    assert any("serves circle" in problem for problem in check(other, "secret", NOON).problems)


def test_a_server_that_stays_behind_is_told_when_it_had_its_time(towers, tmp_path):  # noqa: F811
    """One that cannot load what is live says so itself at once."""
    pipeline = shop(tmp_path)
    circle.publish(pipeline, towers, tmp_path / "first", DAY)
    with running(create_app(pipeline, Settings(poll=3600))) as client:
        asked = shop(tmp_path, f'server = "{ready(client).base_url}"', QUICK, 'max_age = "9999d"')
        later = circle.publish(pipeline, towers, tmp_path / "second", "2024-01-02")
        now = datetime.now(UTC)
        assert check(asked, now=now).problems == ()
        [problem] = check(asked, now=now + timedelta(minutes=11)).problems
    assert later in problem and "answers" in problem


CATALOGUE = frozenset("abcdefgh")


def answer(items="abc", scores=(3.0, 2.0, 1.0), history="", problem=""):
    query = {"history": list(history)} if history else {}
    return Answer(Question("made-up users", query), 0.01, "v", tuple(items), scores, problem)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer(), ""),
        (answer("", ()), "is empty"),
        (answer("aba"), "twice"),
        (answer("abz"), "not in the catalogue"),
        (answer(scores=(3.0, None, 1.0)), "no number"),
        (answer(scores=(3.0,)), "no number"),
        (answer(problem="it answered 503"), "503"),
    ],
)
def test_a_list_is_of_items_of_the_catalogue_each_once_with_scores(given, said):
    problems = list(list_problems([given, answer("hgf")], CATALOGUE))
    assert len(problems) == bool(said)
    assert all(said in problem and "1 of 2" in problem for problem in problems)


def test_as_many_items_as_came_after_the_version_may_be_outside_of_its_catalogue():
    lists = [answer("abz"), answer("ayz")]
    assert not list(list_problems(lists, CATALOGUE, newer=2))
    [problem] = list_problems(lists, CATALOGUE, newer=1)
    assert "2 of 2" in problem and "not in the catalogue" in problem


def test_the_same_list_for_everybody_is_told():
    same = [answer(history=letter) for letter in "abcdef"]
    [problem] = list_problems(same, CATALOGUE)
    assert "6 histories" in problem
    assert not list(list_problems([*same, answer("abd", history="g")], CATALOGUE))
    assert not list(list_problems(same[:3], CATALOGUE))


def test_the_command_tells_somebody_and_its_last_line_is_json(home, server):
    shop(home, f'server = "{server}"', QUICK)
    command = ["monitor", str(home / "circle.toml")]
    done = CliRunner().invoke(app, command, env={"TWINSPIRE_TOKEN": "secret"})
    assert isinstance(done.exception, Unwell) and Unwell.exit_code == 5
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["status"], line["exit_code"], line["lists"]) == ("Unwell", 5, 25)
    [problem] = line["problems"]  # it is of 2024
    assert "monitor.max_age" in problem
    [told] = [json.loads(one) for one in (home / "told").read_text().splitlines()]
    assert (told["event"], told["day"], told["stage"]) == ("unwell", DAY, "monitor")
    assert told["reason"] == line["reason"] and "secret" not in done.output

    shop(home, f'server = "{server}"', QUICK, 'max_age = "99999d"')
    done = CliRunner().invoke(app, command, env={"TWINSPIRE_TOKEN": "secret"})
    assert done.exit_code == 0
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "well"
