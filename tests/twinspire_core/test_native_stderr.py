import errno
import os
import sys
import tempfile
import threading

import pytest

from twinspire_core.native_stderr import suppress_native_stderr


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


def test_threads_whose_blocks_overlap_leave_standard_error_as_it_was(capfd):
    """One begins, another begins, the first ends, then the other: as versions are loaded for pages
    and for answers.
    """
    inside, end = threading.Event(), threading.Event()

    def other():
        with suppress_native_stderr():
            inside.set()
            end.wait(10)

    with suppress_native_stderr():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
    os.write(2, b"not yet\n")
    end.set()
    thread.join()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_what_two_blocks_fail_with_is_told_once(capfd):
    with pytest.raises(ValueError), suppress_native_stderr(), suppress_native_stderr():
        os.write(2, b"the reason\n")
        raise ValueError
    assert capfd.readouterr().err == "the reason\n"
    with pytest.raises(ValueError), suppress_native_stderr():
        with pytest.raises(ValueError), suppress_native_stderr():
            os.write(2, b"one\n")
            raise ValueError
        os.write(2, b"other\n")
        raise ValueError
    assert capfd.readouterr().err == "one\nother\n"


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
