"""Every way in which Airflow runs a day, compared with `twinspire run` of the same days: the right day, from
the right parent, goes live where it should, and is the same version, byte for byte.

Each day of the logs is one case. One Airflow for each database has all of them at once, over real
stages; each test looks at one run of it.
"""

import contextlib
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import httpx
import pytest

from examples.local_airflow.server import LocalAirflow, free_port
from index_builder.registry.version_log import version_date
from tests.dags.browser import needs_chromium, page_of_task, report_button
from tests.dags.conftest import days_ago, until
from tests.system.days import ROOT, registry_of, twinspire
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import runs_of_days
from twinspire_core.config.pipeline import load
from twinspire_core.contracts.version_manifest import REPORT

pytestmark = [pytest.mark.system, pytest.mark.timeout(3000)]

# Not just before midnight, when "yesterday" would change under the tests.
ZONE = "Asia/Tokyo" if datetime.now(ZoneInfo("Asia/Tokyo")).hour < 22 else "Pacific/Auckland"


ago = partial(days_ago, ZONE)
OLDEST, DONE, PARTLY, EMPTY, MISSING, FILLED, FORCED, YESTERDAY = (ago(n) for n in range(8, 0, -1))
"""What becomes of each day: OLDEST is run by hand while the backfill of DONE to FORCED is under way,
YESTERDAY by its schedule, by hand and from scratch, FORCED once more. EMPTY has no rows, MISSING no
folder.
"""

RUNS = {
    # The day, its parent's, and whether it was live when its run ended.
    "backfill of a day that is done": (DONE, None, True),
    "backfill of a day partly done": (PARTLY, DONE, True),
    "backfill after days without logs": (FILLED, PARTLY, True),
    "backfill beside the scheduled run": (FORCED, FILLED, True),
    "scheduled": (YESTERDAY, FORCED, True),
    "manual without a day": (YESTERDAY, FORCED, True),
    "manual during a backfill": (OLDEST, None, False),
    "manual from scratch": (YESTERDAY, None, True),
    "manual by force": (FORCED, FILLED, False),
}
every_run = pytest.mark.parametrize("name", RUNS)


def with_server():
    """A table of a pipeline file: where its server is."""
    return f'\n[registry]\nserver = "http://127.0.0.1:{free_port()}"\n'


@pytest.fixture(scope="session")
def by_hand(tmp_path_factory, logs_of, pipeline_of):
    """The days as `twinspire run` makes them; and a copy of what it had made after DONE, with the
    first stages of PARTLY, and with `strict.toml`, a recommender of its own with a version of DONE
    and a gate that accepts no other.
    """
    root = tmp_path_factory.mktemp("by hand")
    days = [day for n in range(1, 9) if (day := ago(n)) != MISSING]
    logs_of(root / "logs", days, ZONE, empty=[EMPTY])
    alone, begun = root / "alone/shop.toml", root / "begun/shop.toml"
    alone.parent.mkdir()
    text = pipeline_of("shop", ZONE, root / "logs").replace("retries = 2", "retries = 1")
    alone.write_text(f"{text}{with_server()}")

    def run(*options, check=0, file=alone):
        twinspire("run", str(file), *map(str, options), check=check)

    run("--date", DONE)
    strict = alone.with_name("strict.toml")
    text = text.replace('name = "shop"', 'name = "strict"')
    strict.write_text(f"{text}{with_server()}")
    run("--date", DONE, file=strict)
    # What nobody can reach: each later version is refused.
    text = text.replace("[gate]\n", '[gate]\nfloors = { "recall@10" = 1.0 }\n')
    strict.write_text(f"{text}{with_server()}")
    shutil.copytree(alone.parent, begun.parent)
    for stage in ("features", "train"):
        twinspire(stage, str(begun), "--date", str(PARTLY))
    run("--from", PARTLY, "--to", YESTERDAY, check=75)  # MISSING is late
    run("--date", OLDEST)
    run("--date", YESTERDAY, "--mode", "full")
    run("--date", FORCED, "--force")
    return alone, begun


@pytest.fixture(scope="module")
def shop(by_hand, database, tmp_path_factory):
    """The pipeline file of Airflow's runs, which go on from what is begun."""
    folder = tmp_path_factory.mktemp("by airflow") / "shop"
    shutil.copytree(by_hand[1].parent, folder)
    return folder / "shop.toml"


@pytest.fixture(scope="module")
def airflow(shop, database):
    with LocalAirflow(shop.parents[1] / "airflow", shop.parent, database=database) as airflow:
        airflow.wait_until_healthy(timeout=400).wait_for_dag("shop", timeout=200)
        yield airflow


@pytest.fixture(scope="module")
def rest(airflow):
    return airflow.rest


@pytest.fixture(scope="module")
def runs(rest):
    """Everything started and ended: ids of the runs, by their names in RUNS or by their day."""
    zone = ZoneInfo(ZONE)
    # Before the DAG is let go, which makes the scheduled run at once: older days go first.
    start_backfill(rest, "shop", DONE, FORCED, zone=zone, at_once=10)
    made = {"manual without a day": rest.trigger("shop")}
    rest.unpause("shop")
    until(lambda: rest.runs("shop", run_type=["backfill"], state=["success"]))
    made["manual during a backfill"] = rest.trigger("shop", day=str(OLDEST))
    finish(rest)
    made["manual by force"] = rest.trigger("shop", day=str(FORCED), force=True)
    made["manual from scratch"] = rest.trigger("shop", day=str(YESTERDAY), mode="full")
    finish(rest)
    by_day = runs_of_days(rest, "shop", DONE, YESTERDAY, zone)
    for name, (day, *_) in RUNS.items():
        if name not in made:
            made[name] = by_day[day]["dag_run_id"]
    return made | {day: run["dag_run_id"] for day, run in by_day.items()}


def finish(rest):
    """Waits until no run is under way."""
    until(lambda: not rest.runs("shop", state=["running", "queued"]))


@pytest.fixture(scope="module")
def results(rest, runs):
    """What each task of each run of RUNS returned."""
    return {
        name: {task: rest.result("shop", runs[name], task) for task in ("day", "train", "publish")}
        for name in RUNS
        if states(rest, runs[name])["publish"] == "success"
    }


def states(rest, run):
    """How each task of a run ended."""
    return {name: task["state"] for name, task in rest.tasks("shop", run).items()}


@every_run
def test_a_run_ends_well(rest, runs, name):
    ends = states(rest, runs[name])
    assert ends.pop("refresh") == "skipped"
    assert set(ends.values()) == {"success"}, ends


@every_run
def test_a_run_has_the_right_day_parent_and_status(results, name, shop):
    day, parent_day, live = RUNS[name]
    assert {task["day"] for task in results[name].values()} == {str(day)}
    published = results[name]["publish"]
    parent = registry_of(shop).manifest(published["version"]).parent
    assert version_date(published["version"]) == day and published["live"] == live
    assert (version_date(parent) if parent else None) == parent_day


@every_run
def test_a_version_equals_that_of_twinspire_run(results, name, shop, by_hand):
    version = results[name]["publish"]["version"]
    ours, theirs = registry_of(shop).verify(version), registry_of(by_hand[0]).verify(version)
    # Where the report is, and whatever else tells of attempts, whose names are random.
    assert ours.files.keys() == theirs.files.keys()
    assert same(ours) == same(theirs)


def same(manifest):
    """What does not depend on when a version was made, and where."""
    fields = manifest.model_dump(exclude={"sources"})
    del fields["files"][REPORT]
    return fields


def test_finished_stages_are_not_repeated(results):
    def done(name):
        return [task for task, result in results[name].items() if result.get("status") == "done"]

    # Into a copy of the registry, which is another place: the same version once more.
    assert done("backfill of a day that is done") == ["publish"]
    assert done("backfill of a day partly done") == ["publish"]
    assert done("manual by force") == ["train", "publish"]


def test_both_registries_end_with_the_same_versions(runs, shop, by_hand):
    ours, theirs = registry_of(shop), registry_of(by_hand[0])
    assert ours.live() == theirs.live()
    assert sorted(ours.state().accepted) == sorted(theirs.state().accepted)


def test_an_old_day_does_not_wait_for_later_days(rest, runs):
    tasks = rest.tasks("shop", runs["manual during a backfill"])
    opened, passed = (datetime.fromisoformat(tasks[name]["end_date"]) for name in ("day", "turn"))
    # A run that has its turn before is over in less, even on a busy machine
    assert passed - opened < timedelta(seconds=180)


@contextlib.contextmanager
def server_of(file):
    """Serves what is live where `registry.server` says, which is yielded."""
    place = load(file).registry.server
    port = place.rpartition(":")[2]
    line = [sys.executable, "-m", "twinspire", "serve", file, "--port", port]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or answers(place))
        yield place
    finally:
        process.terminate()
        process.wait(60)


def answers(place):
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{place}/readyz").is_success


@contextlib.contextmanager
def report_by_button(airflow, dag, run):
    """The page that opens when somebody clicks on the button of a run's `publish`."""
    with page_of_task(airflow, dag, run, "publish") as page:
        with page.expect_popup() as opened:
            report_button(page).click()
        opened.value.wait_for_load_state()
        yield opened.value


@needs_chromium
def test_the_report_button_of_a_task_opens_its_versions_report(airflow, runs, results, shop):
    version = results["backfill beside the scheduled run"]["publish"]["version"]
    run = runs["backfill beside the scheduled run"]
    with server_of(shop) as server, report_by_button(airflow, "shop", run) as report:
        assert report.url == f"{server}/report?version={version}"
        assert report.title() == f"shop, {FORCED}"
        assert version in report.content()


@needs_chromium
def test_the_button_works_for_a_refused_version(airflow, rest, shop):
    strict = shop.with_name("strict.toml")
    rest.unpause("strict")
    until(lambda: rest.runs("strict", run_type=["scheduled"], state=["success", "failed"]))
    [run] = [one["dag_run_id"] for one in rest.runs("strict")]
    publish = rest.tasks("strict", run)["publish"]
    assert (publish["state"], publish["try_number"]) == ("failed", 1)
    assert "exit code 4" in rest.log("strict", run, "publish")
    refused, followed, live = registry_of(strict).statuses()
    # Days later more was sold of everything than these towers ever met: they do not get the catalogue.
    assert [one.status for one in (refused, followed, live)] == ["refused", "refused", "live"]
    assert (followed.refreshes, followed.corpus_date) == (live.version, YESTERDAY)
    with server_of(strict) as server, report_by_button(airflow, "strict", run) as report:
        assert report.url == f"{server}/report?version={refused.version}"
        assert report.title() == f"strict, {YESTERDAY}"
        assert "recall@10" in report.content() and "refused" in report.content().lower()
