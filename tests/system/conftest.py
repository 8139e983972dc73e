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
from twinspire_core import storage


@pytest.fixture(scope="session")
def two_days(tmp_path_factory):
    """The shop after two days; not to be changed by tests."""
    folder = tmp_path_factory.mktemp("shop")
    pipeline = lay_out(folder)
    text = typed("run", str(pipeline), "--from", FIRST, "--to", SECOND)
    return folder, text


@pytest.fixture
def shop(two_days, tmp_path):
    """A copy of it to work on: its pipeline file."""
    shutil.copytree(two_days[0], tmp_path / "shop")
    return tmp_path / "shop/shop.toml"


@pytest.fixture
def remote_shop(shop, remote_place, monkeypatch):
    """The same with working files and registry in an object store, and nowhere else."""
    for folder in ("work", "registry"):
        storage.upload_tree(shop.parent / folder, f"{remote_place}/{folder}")
        shutil.rmtree(shop.parent / folder)
    places = f'[registry]\nroot = "{remote_place}/registry"\n'
    text = shop.read_text().replace("[pipeline]", f'[pipeline]\nwork_root = "{remote_place}/work"')
    shop.write_text(places + text)
    # A machine of Google's is not asked for credentials, which takes long where there is none.
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return shop


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
