"""A module that is hidden cannot be imported meanwhile, and is there afterwards as it was
before."""

import colorsys
import errno
import importlib
import os
import subprocess
import sys
import tempfile
import threading

import pytest

from twinspire_core.native_code import block_import, suppress_native_stderr


def test_a_module_is_as_it_was_when_the_last_of_several_threads_has_done():
    """One begins, another begins, the first ends, then the other: versions of pages and of answers."""
    inside, end = threading.Event(), threading.Event()

    def other():
        with block_import("colorsys"):
            inside.set()
            end.wait(10)

    thread = threading.Thread(target=other)
    with block_import("colorsys"):
        thread.start()
        assert inside.wait(10)
    with pytest.raises(ImportError):
        importlib.import_module("colorsys")
    end.set()
    thread.join(10)
    assert importlib.import_module("colorsys") is colorsys


def test_what_was_not_imported_can_be_imported_afterwards():
    with (
        pytest.raises(ValueError),
        block_import("nobody_imported_this"),
        block_import("nobody_imported_this"),
    ):
        raise ValueError
    assert "nobody_imported_this" not in sys.modules


def printed(code: str) -> list[str]:
    """The lines that a separate Python process prints."""
    return subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()


def test_compiled_libraries_do_without_what_is_left_out():
    """Arrow asks for pandas from compiled code, and takes an entry None of sys.modules for a
    module.
    """
    code = """
import colorsys, sys
from twinspire_core.native_code import never_import
never_import("pandas", "colorsys", "sched")
import pyarrow.dataset
print(pyarrow.array([1, None]).sum(), "pandas" in sys.modules)
import colorsys
try:
    import sched
except ImportError as e:
    print(e.name)
"""
    assert printed(code) == ["1 False", "sched"]


def test_nothing_is_heard_unless_it_fails(capfd):
    with suppress_native_stderr(), suppress_native_stderr():
        os.write(2, b"greetings\n")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
    with pytest.raises(ValueError), suppress_native_stderr():
        os.write(2, b"the reason\n")
        raise ValueError
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "the reason\nheard again\n"


def test_blocks_of_threads_wait_for_one_another_and_leave_standard_error_as_it_was(capfd):
    def load_library():
        with suppress_native_stderr():
            os.write(2, b"greetings\n")

    with suppress_native_stderr():
        thread = threading.Thread(target=load_library)
        thread.start()
        os.write(2, b"not yet\n")
    thread.join()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_a_failure_of_two_blocks_is_shown_once(capfd):
    with pytest.raises(ValueError), suppress_native_stderr(), suppress_native_stderr():
        os.write(2, b"the reason\n")
        raise ValueError
    assert capfd.readouterr().err == "the reason\n"
    with pytest.raises(ValueError), suppress_native_stderr():
        with pytest.raises(ValueError), suppress_native_stderr():
            os.write(2, b"first\n")
            raise ValueError
        os.write(2, b"second\n")
        raise ValueError
    assert capfd.readouterr().err == "first\nsecond\n"


def test_where_it_cannot_be_kept_it_is_heard_and_later_blocks_are_as_ever(capfd, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    handles = len(os.listdir("/dev/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", full)
        with suppress_native_stderr():
            os.write(2, b"heard\n")
    assert len(os.listdir("/dev/fd")) == handles
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        with suppress_native_stderr():
            os.write(2, b"greetings\n")
    with suppress_native_stderr():
        os.write(2, b"greetings\n")
    assert capfd.readouterr().err == "heard\n"
