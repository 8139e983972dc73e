"""Loops that numba compiles, and the files that it keeps them in."""

import errno
import fcntl

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from twinspire_core.native_code import compiled


def _double(into):
    for place in range(len(into)):
        into[place] *= 2


@pytest.fixture
def doubled(tmp_path, monkeypatch):
    """Doubles 1 in a loop that another process would have compiled again, or read from the files."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def run(kind=np.int64):
        into = np.ones(3, kind)
        compiled(_double)(into)
        return into.tolist()

    return run


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 20])
def test_files_that_a_power_cut_left_in_part_are_written_again(doubled, tmp_path, ending, left):
    assert doubled() == [2, 2, 2]
    (file,) = tmp_path.rglob(f"*{ending}")
    file.write_bytes(file.read_bytes()[:left])
    assert doubled() == [2, 2, 2]
    assert file.stat().st_size > 2 * left
    assert doubled() == [2, 2, 2]


def test_a_full_disk_costs_no_more_than_compiling_again(doubled, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)
    assert doubled() == [2, 2, 2]


def test_processes_write_one_after_the_other(doubled, tmp_path, monkeypatch):
    save, refused = IndexDataCacheFile._save_data, []

    def as_another_process_sees_it(*of):
        with next(tmp_path.rglob("*.lock")).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                refused.append(error)
        save(*of)

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", as_another_process_sees_it)
    assert doubled(np.int32) == doubled(np.float32) == [2, 2, 2]
    assert len(refused) == 2 and len(list(tmp_path.rglob("*.nbc"))) == 2
