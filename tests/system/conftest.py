"""The made-up shop after two days through all real stages."""

import shutil

import pytest

from tests import warm
from tests.shop import lay_out
from tests.system.days import FIRST, SECOND, typed


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
