import contextlib
import os
import random
import signal
import time

import pytest

from tests import warm
from tests.system.days import SECOND, STAGES, THIRD, output, registry_of, result, state, twinspire


@pytest.mark.system
def test_two_runs_of_a_day_at_once(shop, undisturbed):
    both = [warm.start("run", str(shop), "--date", THIRD) for _ in range(2)]
    assert [warm.join(one) for one in both] == [0, 0]
    assert result(shop, THIRD) == undisturbed.result, (
        "equal content is one version and one entry of the log"
    )


@pytest.mark.system
def test_a_run_killed_in_every_stage_ends_with_equal_files(shop, undisturbed):
    """Each stage is killed twice before it is left to end."""
    chance, ends = random.Random(1), []
    for stage in STAGES:
        for share in (0.3, 0.8):
            log = registry_of(shop).log()
            process = warm.start(stage, str(shop), "--date", THIRD)
            time.sleep(undisturbed.seconds[stage] * (share + chance.uniform(-0.1, 0.05)))
            with contextlib.suppress(ProcessLookupError):  # it was sooner this time
                os.killpg(process.pid, signal.SIGKILL)
            ends.append(warm.join(process))
            entries = registry_of(shop).log()
            assert entries[: len(log)] == log and len(entries) <= len(log) + 1
            registry_of(shop).open(entries[-1].live)
        twinspire(stage, str(shop), "--date", THIRD)
        if stage != "publish":  # whose report has the time; the result is compared without it
            assert output(shop, stage) == undisturbed.outputs[stage], stage
    assert result(shop, THIRD) == undisturbed.result
    assert ends.count(-signal.SIGKILL) >= len(STAGES), "of some the second kill may come too late"


def test_a_later_day_waits_for_a_running_day(shop):
    waiting = ("await-turn", str(shop), "--date", "2024-03-12")
    for run in ("one", "two"):
        twinspire("open-day", str(shop), "--date", THIRD, "--run", run)
    assert THIRD in twinspire(*waiting, check=75)["reason"]
    twinspire("await-turn", str(shop), "--date", SECOND)
    twinspire("train", str(shop), "--date", THIRD, "--run", "one", check=2)
    twinspire(*waiting, check=75)
    twinspire("train", str(shop), "--date", THIRD, check=2)
    # Neither another run's end nor a stage by hand ends the second run
    twinspire(*waiting, check=75)
    twinspire("close-day", str(shop), "--date", THIRD)
    twinspire(*waiting)


def test_a_killed_run_does_not_block_later_days(shop):
    waiting = ("await-turn", str(shop), "--date", "2024-03-12")
    process = warm.start("run", str(shop), "--date", THIRD)
    while state(shop, THIRD) is None:
        time.sleep(0.1)
    assert THIRD in twinspire(*waiting, check=75)["reason"]
    process.kill()
    warm.join(process)
    assert state(shop, THIRD) == "killed"
    twinspire(*waiting)


def test_waiting_ends_after_train_wait_with_the_command_that_closes(shop):
    shop.write_text(shop.read_text().replace("[train]", '[train]\nwait = "2s"'))
    twinspire("open-day", str(shop), "--date", THIRD, "--run", "dead")
    twinspire("open-day", str(shop), "--date", "2024-03-12", "--run", "waits")
    ask = ("await-turn", str(shop), "--date", "2024-03-12", "--run", "waits")
    assert "twinspire close-day" in twinspire(*ask, check=75)["reason"]
    time.sleep(2)
    reason = twinspire(*ask, check=2)["reason"]
    assert f"twinspire close-day {shop} --date {THIRD}" in reason and "run dead" in reason
    assert "train.wait" in reason
    assert state(shop, "2024-03-12") == "failed", "and so keeps no later day waiting in turn"
    assert "train.wait" in twinspire("train", str(shop), "--date", "2024-03-12", check=75)["reason"]
    twinspire(*ask, check=75)  # cleared by hand: it waits again
    assert twinspire("close-day", str(shop), "--run", "dead")["closed"] == ["dead"]
    twinspire(*ask)


def test_a_day_counts_as_running_while_it_waits_for_logs(shop):
    shop.write_text(shop.read_text().replace("[source]", '[source]\nwait = "1m"'))
    (shop.parent / f"events/dt={THIRD}").rename(shop.parent / "kept")
    process = warm.start("open-day", str(shop), "--date", THIRD, "--run", "slow")
    while state(shop, THIRD) is None:
        time.sleep(0.1)
    twinspire("await-turn", str(shop), "--date", "2024-03-12", check=75)
    (shop.parent / "kept").rename(shop.parent / f"events/dt={THIRD}")
    assert warm.join(process) == 0
