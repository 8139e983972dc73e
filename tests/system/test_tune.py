"""A search for settings on the made-up shop: killed in the middle it goes on, and what it says of a
setting is what a day with that setting finds.
"""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests import warm
from tests.system.days import FIRST, attempt, twinspire

pytestmark = pytest.mark.system

KEYS = ("--key", "train.temperature", "--key", "train.epochs")


def figures(shop):
    """What the two-tower of the first day found on it before it was trained on it."""
    metrics = json.loads((attempt(shop, FIRST, "measure") / "metrics.json").read_text())
    return metrics["progressive"]


def test_a_killed_search_resumes_and_reports_the_days_recall(shop, tmp_path):
    words = ("tune", str(shop), "--days", FIRST, "--trials", "2", *KEYS)
    err = tmp_path / "err"
    killed = warm.start(*words, err=str(err))
    deadline = time.monotonic() + warm.LIMIT
    while "trial 1 of 2" not in (err.read_text() if err.exists() else ""):
        assert killed.is_alive() and time.monotonic() < deadline, err.read_text()
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    assert warm.join(killed) == -signal.SIGKILL
    code, out, said = warm.run(*words)
    assert code == 0, said
    assert "Done before: 1." in said and "trial 1 of 2" not in said and "trial 2 of 2" in said
    result = json.loads(out.splitlines()[-1])
    own = next(
        t
        for t in result["trials"]
        if t["settings"]["train.epochs"] == 5 and t["settings"]["train.temperature"] == 0.15
    )
    other = next(t for t in result["trials"] if t is not own)
    assert own["recall@10"] == pytest.approx(figures(shop)["recall@10"], abs=1e-6)
    # The registry is as it was: the day with the other settings has no parent either.
    temperature, epochs = (other["settings"][key] for key in KEYS[1::2])
    text = shop.read_text().replace("epochs = 5", f"epochs = {epochs}\ntemperature = {temperature}")
    shop.write_text(text)
    for stage in ("features", "train", "measure"):
        outcome = twinspire(stage, str(shop), "--date", FIRST)
        assert (outcome["status"] == "done") == (stage != "features")
    assert other["recall@10"] == pytest.approx(figures(shop)["recall@10"], abs=1e-6)
    assert own["recall@10"] != other["recall@10"]
    left = {path.name for path in Path(shop.parent, "work/shop/tuning").glob("*/shop/dt=*/*")}
    assert left == {"features"}
