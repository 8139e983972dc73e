import errno
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinspire_core.errors import BadData, TryAgain, UsageError
from twinspire_core.storage.disk import explain


def test_a_full_disk_is_known_by_what_arrow_and_python_raise(tmp_path):
    full = tmp_path / "full"
    for write in (
        lambda: pq.write_table(pa.table({"x": range(100_000)}), full),
        lambda: full.write_bytes(bytes(100_000)),
    ):
        # By a link: Arrow deletes what it could not write, which as root would be the device itself.
        full.symlink_to("/dev/full")
        with pytest.raises(OSError) as raised:
            write()
        full.unlink(missing_ok=True)
        advice = explain(raised.value)
        assert isinstance(advice, TryAgain) and "twinspire prune PIPELINE" in str(advice)


def test_it_is_known_by_the_text_where_that_is_all_there_is():
    assert isinstance(explain(RuntimeError("x/y.tfrecord; No space left on device")), TryAgain)
    assert isinstance(explain(RuntimeError("x/y.tfrecord; Read-only file system")), UsageError)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_closed_disk_is_the_users_to_open(code):
    advice = explain(OSError(code, os.strerror(code), "/data/registry"))
    assert isinstance(advice, UsageError) and "/data/registry" in str(advice)


def test_the_first_error_of_a_chain_is_reported():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/first")
        finally:
            raise OSError(errno.EACCES, "Permission denied", "/second")
    except OSError as error:
        advice = explain(error)
    assert isinstance(advice, TryAgain) and "/first" in str(advice) and "/second" not in str(advice)


def test_other_errors_are_left_as_they_are():
    cause = OSError(errno.ENOSPC, "No space left on device")
    ours = BadData("a file is damaged")
    ours.__cause__ = cause
    for error in (FileNotFoundError("x"), ValueError("x"), ours, KeyboardInterrupt()):
        assert explain(error) is None
