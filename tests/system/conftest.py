"""The made-up shop after two days through all real stages."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from days import FIRST, SECOND, typed
from shop import lay_out

from tests import warm


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


def pytest_sessionfinish():
    warm.stop()
