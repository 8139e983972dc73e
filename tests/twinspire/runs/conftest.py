"""A registry of versions that hold nothing, and another process."""

import shutil
import subprocess
import sys
from datetime import date
from types import SimpleNamespace

import pytest

from index_builder.registry.registry import Registry
from tests.published import described
from twinspire.runs.run_leases import ProcessIdentity
from twinspire_core.config.tables.deployment import NotifyConfig, ServingConfig
from twinspire_core.config.tables.quality import GateConfig

_PRINT_IDENTITY = """
import time
from twinspire.runs import run_leases
print(run_leases.identity().model_dump_json(), flush=True)
time.sleep(60)
"""


def day(n):
    return date(2024, 2, n)


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline whose logs miss the 27th."""
    for n in (*range(20, 27), 28, 29):
        (tmp_path / f"events/dt={day(n)}").mkdir(parents=True)
        (tmp_path / f"events/dt={day(n)}/part.csv").touch()
    return SimpleNamespace(
        name="shop",
        pipeline=SimpleNamespace(work_root=str(tmp_path / "work")),
        registry=SimpleNamespace(root=str(tmp_path / "registry")),
        gate=GateConfig(),
        serving=ServingConfig(),
        notify=NotifyConfig(),
        source=SimpleNamespace(events=f"{tmp_path}/events/dt={{date}}/", late_days=0),
    )


@pytest.fixture
def registry(pipeline):
    return Registry(pipeline.registry.root, "shop")


@pytest.fixture
def publish(registry, tmp_path):
    """A function that publishes a version of a day."""
    count = iter(range(99))

    def publish(
        n, parent=None, *, accepted=True, sources=None, refreshes=None, corpus=None, metrics=None
    ):
        content = str(next(count)).encode()
        shutil.rmtree(tmp_path / "staged", ignore_errors=True)
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged/file").write_bytes(content)
        if metrics:
            (tmp_path / "staged/metrics.json").write_bytes(metrics)
        stages = ("train", "measure")
        sources = sources or {stage: f"dt={day(n)}/{stage}/0001-a" for stage in stages}
        more = {"sources": sources, "refreshes": refreshes, "corpus_date": corpus}
        manifest = described(tmp_path / "staged", "shop", day(n), parent=parent, **more)
        registry.publish(str(tmp_path / "staged"), manifest, accepted=accepted, reason="")
        return manifest.version

    return publish


@pytest.fixture
def other():
    """Another process's identity, while it runs."""
    with subprocess.Popen(
        [sys.executable, "-c", _PRINT_IDENTITY], stdout=subprocess.PIPE
    ) as process:
        yield ProcessIdentity.model_validate_json(process.stdout.readline()), process
        process.kill()
