"""The made-up shop after two days through all real stages."""

import shutil
import time
from types import SimpleNamespace

import pytest

from tests import warm
from tests.shop import lay_out
from tests.system.days import (
    FIRST,
    SECOND,
    STAGES,
    THIRD,
    attempt,
    output,
    result,
    twinspire,
    typed,
)


@pytest.fixture(scope="session")
def two_days(tmp_path_factory):
    """The shop after two days; not to be changed by tests."""
    folder = tmp_path_factory.mktemp("shop")
    pipeline = lay_out(folder)
    told = typed("run", str(pipeline), "--from", FIRST, "--to", SECOND)
    return folder, told


@pytest.fixture
def shop(two_days, tmp_path):
    """A copy of it to work on: its pipeline file."""
    shutil.copytree(two_days[0], tmp_path / "shop")
    return tmp_path / "shop/shop.toml"


@pytest.fixture(scope="session")
def undisturbed(two_days, tmp_path_factory):
    """The third day without faults: what it makes, what each stage makes and how large that is, and
    how long each takes.
    """
    folder = tmp_path_factory.mktemp("undisturbed") / "shop"
    shutil.copytree(two_days[0], folder)
    seconds, outputs, sizes = {}, {}, {}
    warm.run("--version")  # no stage waits until the server has imported
    for stage in STAGES:
        started = time.monotonic()
        twinspire(stage, str(folder / "shop.toml"), "--date", THIRD)
        seconds[stage] = time.monotonic() - started
        outputs[stage] = output(folder / "shop.toml", stage)
        made = attempt(folder / "shop.toml", THIRD, stage).rglob("*")
        sizes[stage] = sum(file.stat().st_size for file in made if file.is_file())
    return SimpleNamespace(
        result=result(folder / "shop.toml", THIRD), seconds=seconds, outputs=outputs, sizes=sizes
    )


def pytest_sessionfinish():
    warm.stop()
