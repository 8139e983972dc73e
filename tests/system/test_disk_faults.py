import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.system.days import STAGES, THIRD, output, registry_of, result, state, twinspire

pytestmark = pytest.mark.system


@pytest.fixture
def disk(two_days, tmp_path, monkeypatch):
    """A separate disk with the shop after two days, and with the folder for scratch files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        shutil.copytree(two_days[0], folder / "shop")
        (folder / "scratch").mkdir()
        monkeypatch.setenv("TMPDIR", str(folder / "scratch"))
        yield SimpleNamespace(folder=folder, pipeline_file=folder / "shop/shop.toml")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave_room(folder: Path, room: int) -> Path:
    """Fills a disk up to so many bytes: the file that does."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - room)
    return filler


def test_a_full_disk_is_reported_and_the_repeated_day_is_equal(disk, undisturbed):
    shop, log = disk.pipeline_file, registry_of(disk.pipeline_file).log()
    for stage in STAGES:
        for share in (0, 0.3, 0.8):
            filler = leave_room(disk.folder, int(share * undisturbed.sizes[stage]))
            outcome = twinspire(stage, str(shop), "--date", THIRD, "--run", "one", check=75)
            filler.unlink()
            assert "twinspire prune" in outcome["reason"], (stage, share)
            assert registry_of(shop).log() == log and state(shop, THIRD) in (None, "open")
        twinspire(stage, str(shop), "--date", THIRD, "--run", "one")
        if stage != "publish":
            assert output(shop, stage) == undisturbed.outputs[stage], stage
    assert result(shop, THIRD) == undisturbed.result
    assert state(shop, THIRD) == "published"


def test_rollback_and_prune_work_on_a_disk_without_a_free_byte(disk):
    shop, registry = disk.pipeline_file, registry_of(disk.pipeline_file)
    first, live = registry.state().accepted[0], registry.live()
    leave_room(disk.folder, 0)
    assert first != live and shutil.disk_usage(disk.folder).free == 0
    twinspire("rollback", str(shop), "--reason", "a bad price")
    assert registry.live() == first
    twinspire("prune", str(shop), "--keep", "1", "--keep-days", "0", "--yes")
    assert shutil.disk_usage(disk.folder).free > 0


def test_a_read_only_disk_in_any_stage_is_reported(disk, undisturbed):
    shop = disk.pipeline_file
    for stage in STAGES:
        remount(disk.folder, "ro")
        outcome = twinspire(stage, str(shop), "--date", THIRD, check=2)
        remount(disk.folder, "rw")
        assert "Read-only file system" in outcome["reason"], stage
        twinspire(stage, str(shop), "--date", THIRD)
    assert result(shop, THIRD) == undisturbed.result


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)
