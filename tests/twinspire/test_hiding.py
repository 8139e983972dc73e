"""A module that is hidden cannot be imported meanwhile, and is there afterwards as it was before."""

import colorsys
import importlib
import sys
import threading

import pytest

from twinspire.hiding import hidden


def test_a_module_is_as_it_was_when_the_last_of_several_threads_has_done():
    """One begins, another begins, the first ends, then the other."""
    inside, end = threading.Event(), threading.Event()

    def other():
        with hidden("colorsys"):
            inside.set()
            end.wait(10)

    thread = threading.Thread(target=other)
    with hidden("colorsys"):
        thread.start()
        assert inside.wait(10)
    with pytest.raises(ImportError):
        importlib.import_module("colorsys")
    end.set()
    thread.join(10)
    assert importlib.import_module("colorsys") is colorsys


def test_what_was_not_imported_can_be_imported_afterwards():
    with pytest.raises(ValueError), hidden("nobody_imported_this"), hidden("nobody_imported_this"):
        raise ValueError
    assert "nobody_imported_this" not in sys.modules
