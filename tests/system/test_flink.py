"""The feature and embed jobs on a real Flink cluster of two hosts, and with its parts killed.

What a job makes there is compared, file by file, with what it makes in one process.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.local_airflow.server import LocalAirflow
from examples.local_flink import jars
from examples.local_flink.cluster import LocalFlink
from examples.local_flink.comparison import compare
from tests.beam_jobs.ingest.test_bad_input import spoil
from tests.dags.conftest import finish
from tests.system.days import ROOT, THIRD, attempt, twinspire
from twinspire_core.config.pipeline import load
from twinspire_core.errors import BadData, UsageError

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

PATIENCE = 600
"""Seconds for what takes ten on an idle machine."""
HIDDEN = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
"""A shell's words that hide a folder from the program after it."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if lacking := jars.missing():
        pytest.skip(f"{' and '.join(lacking)} not installed")
    cluster = LocalFlink(tmp_path_factory.mktemp("flink"))
    with cluster:
        yield cluster
    assert cluster.processes() == [], "nothing stays running"


@pytest.fixture(scope="module")
def reference(two_days, tmp_path_factory):
    """The third day's features, a tower and vectors, all in process: the pipeline file."""
    shop = tmp_path_factory.mktemp("reference") / "shop" / "shop.toml"
    shutil.copytree(two_days[0], shop.parent)
    for stage in ("features", "train", "measure", "embed"):
        twinspire(stage, str(shop), "--date", THIRD)
    return shop


@pytest.fixture
def shop(reference, cluster, tmp_path):
    """The same day once more, to be made on the cluster, which is whole and idle: its file."""
    for part in cluster.parts.values():
        if part.has_ended():
            part.start()
    cluster.wait_until_ready()
    folder = tmp_path / "shop"
    shutil.copytree(reference.parent, folder)
    for partials in list(folder.rglob("partials")):
        shutil.rmtree(partials)  # made from the logs of these days: the cluster reads those
    text = (folder / "shop.toml").read_text()
    options = ", ".join(f'"{option}"' for option in cluster.options)
    (folder / "shop.toml").write_text(text.replace("[beam]", f"[beam]\noptions = [{options}]"))
    yield folder / "shop.toml"
    until(lambda: idle(cluster), "the cluster is idle again")


class Command:
    """A stage, started as one types it."""

    def __init__(self, shop, stage):
        self.log = shop.parent / f"{stage}.log"
        words = [sys.executable, "-m", "twinspire", stage, str(shop), "--date", THIRD, "--force"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)

    def code(self):
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    @property
    def output(self):
        return self.log.read_text(errors="replace")


def run(shop, stage="features"):
    """Runs a stage to its good end."""
    command = Command(shop, stage)
    assert command.code() == 0, command.output[-3000:]
    return command


def until(so: Callable[[], object], what):
    """Waits until something is so."""
    end = time.monotonic() + PATIENCE
    while not (result := so()):
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)
    return result


def idle(cluster):
    """Whether no job holds a slot."""
    return cluster.rest.free_slots() == cluster.workers and not unfinished(cluster)


def unfinished(cluster):
    ended = ("FINISHED", "FAILED", "CANCELED")
    return [job for job in cluster.rest.jobs() if job["state"] not in ended]


def working(cluster):
    """Whether a job is half-way: some of its steps have ended."""
    for job in unfinished(cluster):
        return (
            sum(
                v["status"] == "FINISHED"
                for v in cluster.rest.ask(f"jobs/{job['jid']}")["vertices"]
            )
            > 8
        )
    return False


def at_work(cluster):
    """Whether a job has a worker."""
    return cluster.parts["pool-1"].children() and unfinished(cluster)


def state(cluster, job):
    return next(one["state"] for one in cluster.rest.jobs() if one["jid"] == job["jid"])


def differences(reference, shop, stage="features"):
    """Files that are not the bytes of the reference."""
    groups = compare(attempt(reference, THIRD, stage), attempt(shop, THIRD, stage))
    assert sum(group.equal for group in groups.values()) > (30 if stage == "features" else 1)
    return [file for group in groups.values() for file in group.wrong]


def leftovers(shop):
    """Half-written files of committed attempts."""
    return list(Path(attempt(shop, THIRD, "features")).rglob("*.tmp-*"))


def workers(cluster):
    """Pids of the workers of all pools, those included that a pool is about to start."""
    pools = [part for name, part in cluster.parts.items() if name.startswith("pool-")]
    return [pid for pool in pools for pid in pool.children()]


def signal_all(pids, what):
    """Sends a signal to processes, some of which may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


def started(cluster, pool):
    """How many workers a pool has started."""
    return cluster.parts[pool].log.read_text(errors="replace").count("Starting worker")


def test_two_hosts_give_the_same_bytes_as_one_process(cluster, shop, reference):
    before = attempt(shop, THIRD, "features")
    run(shop)
    run(shop, "embed")
    assert attempt(shop, THIRD, "features") != before
    assert differences(reference, shop) == differences(reference, shop, "embed") == []
    for pool in ("pool-1", "pool-2") if cluster.spread else ("pool-1",):
        assert started(cluster, pool)


def test_a_taskmanager_is_killed(cluster, shop, reference):
    command = Command(shop, "features")
    until(lambda: working(cluster), "the job is half-way")
    cluster.parts["taskmanager-1"].kill()
    time.sleep(3)
    cluster.parts["taskmanager-1"].start()
    assert command.code() == 0, command.output[-3000:]
    assert differences(reference, shop) == leftovers(shop) == []


def test_a_worker_is_killed_in_its_work(cluster, shop, reference):
    command = Command(shop, "features")
    until(lambda: working(cluster), "the job is half-way")
    before = started(cluster, "pool-1")
    os.kill(cluster.parts["pool-1"].children()[-1], signal.SIGKILL)
    assert command.code() == 0, command.output[-3000:]
    assert started(cluster, "pool-1") >= before + 2, "one in its place, and one for the new start"
    assert differences(reference, shop) == leftovers(shop) == []


def test_a_worker_is_killed_right_after_its_start(cluster, shop, reference):
    until(lambda: not cluster.parts["pool-1"].children(), "workers of earlier jobs have ended")
    before = started(cluster, "pool-1")
    command = Command(shop, "features")
    os.kill(
        until(lambda: cluster.parts["pool-1"].children(), "a worker starts")[-1], signal.SIGKILL
    )
    assert command.code() == 0, command.output[-3000:]
    assert started(cluster, "pool-1") >= before + 2
    assert differences(reference, shop) == []


def test_the_client_is_stopped(cluster, shop, reference):
    command = Command(shop, "features")
    until(lambda: at_work(cluster), "a worker has started")
    [job] = unfinished(cluster)
    command.process.terminate()
    assert command.code() != 0
    assert "as cancelled." in command.output, "says Flink"
    # Beam's job server alone would call it cancelled, and Flink go on with it until its end.
    assert state(cluster, job) == "CANCELED"
    run(shop)
    assert differences(reference, shop) == []


def test_the_client_is_killed(cluster, shop, reference):
    """Its job goes on until it ends by itself, and the next one does not use what it wrote."""
    command = Command(shop, "features")
    until(lambda: at_work(cluster), "a worker has started")
    command.process.kill()
    command.code()
    [orphan] = unfinished(cluster)
    following = Command(shop, "features")
    assert following.code() == 0, following.output[-3000:]
    until(lambda: state(cluster, orphan) == "FINISHED", "the first job has ended")
    assert differences(reference, shop) == []


def test_a_host_does_not_see_work_root(cluster, shop, reference):
    if not cluster.spread:
        pytest.skip("takes a host of its own (root, iproute2)")
    cluster.parts["pool-2"].kill()
    hide = ("unshare", "--mount", "sh", "-c", HIDDEN, load(shop).pipeline.work_root)
    cluster.parts["pool-2"].start(hide)
    cluster.wait_until_ready()
    command = Command(shop, "features")
    assert command.code() == UsageError.exit_code
    assert "work_root" in command.output and "Traceback" not in command.output
    cluster.parts["pool-2"].kill()
    cluster.parts["pool-2"].start()
    cluster.wait_until_ready()
    run(shop)
    assert differences(reference, shop) == []


def test_a_worker_lacks_the_package(cluster, shop, reference, tmp_path):
    libraries = sysconfig.get_path("purelib")
    without = tmp_path / "bin" / "python"
    without.parent.mkdir()
    # -S: without what .pth files add, and so without this checkout
    without.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    without.chmod(0o755)
    cluster.parts["pool-1"].kill()
    path = f"{without.parent}:{os.environ['PATH']}"
    cluster.parts["pool-1"].start(PATH=path, PYTHONPATH=libraries)
    cluster.wait_until_ready()
    command = Command(shop, "features")
    assert command.code() != 0
    assert "beam_jobs" in command.output and "Traceback" not in command.output
    cluster.parts["pool-1"].kill()
    cluster.parts["pool-1"].start()
    cluster.wait_until_ready()
    run(shop)
    assert differences(reference, shop) == []


def test_a_damaged_file(cluster, shop, reference):
    [file] = (shop.parent / f"events/dt={THIRD}").glob("*.parquet")
    whole = file.read_bytes()
    spoil(file)
    command = Command(shop, "features")
    assert command.code() == BadData.exit_code
    assert "cannot be read" in command.output and "Traceback" not in command.output
    file.write_bytes(whole)
    run(shop)
    assert differences(reference, shop) == []


def test_a_day_by_airflow(cluster, shop, reference):
    """All of a day that is not done yet, with the jobs of two of its tasks on the cluster."""
    home = shop.parent.with_name("airflow")
    for stage in ("features", "train", "measure", "embed"):
        shutil.rmtree(Path(attempt(shop, THIRD, stage)).parent)
    before = len(cluster.rest.jobs("FINISHED"))
    with LocalAirflow(home, shop.parent, schedule=False) as airflow:
        rest = airflow.wait_until_healthy(timeout=PATIENCE)
        rest.wait_for_dag("shop", PATIENCE)
        rest.unpause("shop")
        run = rest.trigger("shop", day=THIRD)
        runs = finish(rest, "shop")
        assert [r["state"] for r in runs if r["dag_run_id"] == run] == ["success"]
    assert len(cluster.rest.jobs("FINISHED")) == before + 3, "two of features, one of embed"
    assert differences(reference, shop) == differences(reference, shop, "embed") == []
