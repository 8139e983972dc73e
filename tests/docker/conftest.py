"""The circle of twelve items, which a real server answers from; and a checkout with a shop for a real engine."""

import shutil
import subprocess
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests import shop
from tests.docker import engine
from tests.serving.conftest import towers

__all__ = ["towers"]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout with a shop whose logs end yesterday, while an engine runs."""
    home = tmp_path_factory.mktemp("containers")
    checkout = home / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=engine.ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.splitlines():
        if (engine.ROOT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(engine.ROOT / name, checkout / name)
    lay_out(checkout / "pipelines", home / "logs")
    for path in (*home.parents[:2], *home.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)  # pytest's own are for their owner alone
    with engine.running(home / "engine"):
        yield checkout


def lay_out(pipelines: Path, logs: Path) -> None:
    """The shop as its only pipeline, in the folders of the containers."""
    file = shop.lay_out(logs, date.today() - timedelta(days=shop.DAYS))
    text = file.read_text().replace("[pipeline]", '[pipeline]\nwork_root = "/data/work"')
    for table in ("events", "items", "users"):
        text = text.replace(f'"{table}/', f'"/logs/{table}/')
    for other in pipelines.glob("*.toml"):
        other.unlink()
    (pipelines / "shop.toml").write_text(f'{text}[registry]\nroot = "/data/registry"\n')
