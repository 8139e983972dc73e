"""Fixtures of the whole suite: places to store things, on a disk and in object stores of real servers."""

import contextlib
import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import go_programs, object_servers

# Some tests fork: in a process that has talked to a runner of Beam, gRPC's own handlers of forks make
# the child crash. Read when gRPC is first imported, which is later.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Threads that wait for each other took a fifth of a small job of Polars, and half of a small fit of LightGBM.
# What `days.typed` runs has all threads: the same bytes come of a day with them.
ONE_THREAD = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")
os.environ |= dict.fromkeys(ONE_THREAD, "1")
# No test cuts the power, and all processes see what the disk has yet to write: waiting for it would only take
# time. tests/index_builder/registry/test_power_cuts.py holds what is flushed, and in which order.
os.fsync = lambda handle: None

ROOT = Path(__file__).parents[1]
# Folders whose files share a costly set-up of the session: one worker runs them all.
TOGETHER = ("tests/beam_jobs/transform", "tests/model/train_stage", "tests/system")
# What takes longest begins first, so that the workers end at the same time.
FIRST = (
    "tests/system",
    "tests/twinspire_core/storage/test_store_faults.py",
    "tests/model/train_stage",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The files that take longest come first."""
    items.sort(
        key=lambda item: next(
            (n for n, begin in enumerate(FIRST) if item.nodeid.startswith(begin)), len(FIRST)
        )
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Spares the collector what was imported: millions of objects, which it went through again at
    each traced graph.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, but for folders whose files stay together."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return next(
                (folder for folder in TOGETHER if nodeid.startswith(folder)),
                super()._split_scope(nodeid),
            )

    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def gs_server(tmp_path_factory):
    """A running fake-gcs-server; google-cloud-storage and Beam find it by a variable, set meanwhile."""
    # Beam would look for credentials for 17 seconds before it goes on without.
    credentials = "apache_beam.internal.gcp.auth._Credentials._credentials_init"
    with object_servers.gs(tmp_path_factory.mktemp("gs")) as found, variables(found) as patch:
        patch.setattr(credentials, True)
        yield


@pytest.fixture(scope="session")
def s3_server():
    """A running server of S3; obstore finds it by variables, set meanwhile."""
    with object_servers.s3() as found, variables(found):
        yield


@pytest.fixture(scope="session")
def az_server():
    """A running Azurite; obstore finds it by variables, set meanwhile."""
    with object_servers.az() as found, variables(found):
        yield


@contextlib.contextmanager
def variables(values):
    """Sets environment variables meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="session")
def prism():
    """Beam's options for its portable local runner, of the version of the installed Beam."""
    program = go_programs.build(go_programs.PRISM, f"v{version('apache-beam')}")
    return ["--runner=PrismRunner", f"--prism_location={program}", "--environment_type=LOOPBACK"]


@pytest.fixture
def gs_place(request):
    """A fresh folder of a fresh bucket, as `gs://…`."""
    return object_servers.fresh_place(request, "gs")


@pytest.fixture(params=["gs", "s3"])
def remote_place(request):
    """A fresh folder of a fresh bucket, once in each object store."""
    return object_servers.fresh_place(request, request.param)


@pytest.fixture(params=["disk", "gs", "s3"])
def place(request, tmp_path):
    """A fresh folder, once on the disk and once in each object store."""
    if request.param == "disk":
        return str(tmp_path / "place")
    return object_servers.fresh_place(request, request.param)
