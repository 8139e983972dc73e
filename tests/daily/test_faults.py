"""Days that are killed, run twice at once, or wait for one another."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from days import ROOT, SECOND, STAGES, THIRD, registry_of, result, state, twinspire


@pytest.fixture(scope="module")
def undisturbed(two_days, tmp_path_factory):
    """The third day without faults: what it makes, and how long each stage takes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "shop"
    shutil.copytree(two_days[0], folder)
    seconds = {}
    for stage in STAGES:
        started = time.monotonic()
        twinspire(stage, str(folder / "shop.toml"), "--date", THIRD)
        seconds[stage] = time.monotonic() - started
    return result(folder / "shop.toml", THIRD), seconds


def test_two_runs_of_a_day_at_once(shop, undisturbed):
    command = [sys.executable, "-m", "twinspire", "run", str(shop), "--date", THIRD]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert result(shop, THIRD) == undisturbed[0], "equal content is one version and one entry of the log"


@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_run_again_gives_the_undisturbed_result(shop, undisturbed, stage):
    expected, seconds = undisturbed
    chance = random.Random(stage)
    for earlier in STAGES[: STAGES.index(stage)]:
        twinspire(earlier, str(shop), "--date", THIRD)
    for share in (0.5, 0.95):
        log = registry_of(shop).log()
        command = [sys.executable, "-m", "twinspire", stage, str(shop), "--date", THIRD]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(seconds[stage] * (share + chance.uniform(-0.1, 0.05)))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found = registry_of(shop).log()
        assert found[: len(log)] == log and len(found) <= len(log) + 1
        registry_of(shop).open(found[-1].live)
    for later in STAGES[STAGES.index(stage) :]:
        twinspire(later, str(shop), "--date", THIRD)
    assert result(shop, THIRD) == expected


def test_a_later_day_waits_for_one_under_way(shop):
    waiting = ("day", str(shop), "--date", "2024-03-12", "--turn")
    for run in ("one", "two"):
        twinspire("day", str(shop), "--date", THIRD, "--run", run)
    assert THIRD in twinspire(*waiting, check=75)["reason"]
    twinspire("day", str(shop), "--date", SECOND, "--turn")
    twinspire("train", str(shop), "--date", THIRD, "--run", "one", check=2)
    twinspire(*waiting, check=75)
    twinspire("train", str(shop), "--date", THIRD, check=2)
    twinspire(*waiting, check=75)  # neither another run's end nor a stage by hand ends the second run
    twinspire("day", str(shop), "--date", THIRD, "--close")
    twinspire(*waiting)


def test_a_run_that_is_killed_keeps_no_later_day_waiting(shop):
    waiting = ("day", str(shop), "--date", "2024-03-12", "--turn")
    command = [sys.executable, "-m", "twinspire", "run", str(shop), "--date", THIRD]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while state(shop, THIRD) is None:
            time.sleep(0.1)
        assert THIRD in twinspire(*waiting, check=75)["reason"]
        process.kill()
    assert state(shop, THIRD) == "killed"
    twinspire(*waiting)


def test_waiting_ends_after_train_wait_with_the_command_that_closes(shop):
    shop.write_text(shop.read_text().replace("[train]", '[train]\nwait = "2s"'))
    twinspire("day", str(shop), "--date", THIRD, "--run", "dead")
    twinspire("day", str(shop), "--date", "2024-03-12", "--run", "waits")
    ask = ("day", str(shop), "--date", "2024-03-12", "--turn", "--run", "waits")
    assert "--close" in twinspire(*ask, check=75)["reason"]
    time.sleep(2)
    told = twinspire(*ask, check=2)["reason"]
    assert f"day {shop} --date {THIRD} --close" in told and "run dead" in told and "train.wait" in told
    assert state(shop, "2024-03-12") == "failed", "and so keeps no later day waiting in turn"
    assert "train.wait" in twinspire("train", str(shop), "--date", "2024-03-12", check=75)["reason"]
    twinspire(*ask, check=75)  # cleared by hand: it waits anew
    assert twinspire("day", str(shop), "--close", "--run", "dead")["closed"] == ["dead"]
    twinspire(*ask)


def test_a_day_counts_as_under_way_while_its_logs_are_waited_for(shop):
    shop.write_text(shop.read_text().replace("[source]", '[source]\nwait = "1m"'))
    (shop.parent / f"events/dt={THIRD}").rename(shop.parent / "kept")
    command = [sys.executable, "-m", "twinspire", "day", str(shop), "--date", THIRD, "--run", "slow"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while state(shop, THIRD) is None:
            time.sleep(0.1)
        twinspire("day", str(shop), "--date", "2024-03-12", "--turn", check=75)
        (shop.parent / "kept").rename(shop.parent / f"events/dt={THIRD}")
        assert process.wait(60) == 0
