"""A module that is hidden cannot be imported meanwhile, and is there afterwards as it was
before.
"""

import colorsys
import importlib
import subprocess
import sys
import threading

import pytest

from twinspire_core.blocked_imports import block_import


def test_a_module_is_as_it_was_when_the_last_of_several_threads_has_done():
    """One begins, another begins, the first ends, then the other."""
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


def told(code: str) -> list[str]:
    """What a Python process of its own prints, by lines."""
    return subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()


def test_compiled_libraries_do_without_what_is_left_out():
    """Arrow asks for pandas from compiled code, and takes an entry None of sys.modules for a
    module.
    """
    code = """
import colorsys, sys
from twinspire_core.blocked_imports import never_import
never_import("pandas", "colorsys", "sched")
import pyarrow.dataset
print(pyarrow.array([1, None]).sum(), "pandas" in sys.modules)
import colorsys
try:
    import sched
except ImportError as e:
    print(e.name)
"""
    assert told(code) == ["1 False", "sched"]


def test_beam_is_loaded_without_clouds_and_finds_them_when_a_job_asks_for_them():
    code = """
import sys
from twinspire_core.blocked_imports import block_tensorflow_extras
with block_tensorflow_extras("google.cloud"):
    import beam_jobs.embed_stage
print({"google.cloud.storage", "apache_beam.io.gcp.gcsfilesystem"} & set(sys.modules) or "light")
from apache_beam.io.filesystems import FileSystems
from beam_jobs.beam import engine
try:
    engine.run_job(["--runner=TestDataflowRunner"], lambda job: None, "out")
except Exception:  # a job there needs more options
    pass
print(FileSystems.get_filesystem("gs://a").scheme())
"""
    assert told(code) == ["light", "gs"]
