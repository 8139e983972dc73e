"""The job graphs that Dataflow would be sent, with the options of docs/operations.md."""

import json
import re
import textwrap
import tomllib
from importlib.metadata import version
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api

from beam_jobs.beam import engine
from beam_jobs.features.job_graph import RawFeatures
from beam_jobs.point_in_time.job import plan_job
from tests.beam_jobs.features import world as worlds
from twinspire_core import storage

ROOT = Path(__file__).parents[3]
IMAGE = "europe-west1-docker.pkg.dev/PROJECT/twinspire/workers"


@pytest.fixture
def options(gs_place):
    """Those of the guide, with a bucket that is there, and a template instead of a run."""
    text = (ROOT / "docs/operations.md").read_text().partition("## Dataflow")[2]
    block = re.search(r"^    \[beam\]\n.*?^    \]$", text, re.S | re.M)[0]
    actual = tomllib.loads(textwrap.dedent(block))["beam"]["options"]
    bucket = gs_place.split("/")[2]
    actual = [option.replace("BUCKET", bucket).replace("PROJECT", "project") for option in actual]
    return [*actual, "--no_auth", f"--template_location={gs_place}/job.json"]


def job(options, gs_place, build):
    """The job that Dataflow would be sent, and the graph that was staged for it."""
    engine.run_job(options, build, f"{gs_place}/pipeline/dt=D/features/1")
    sent = json.loads(storage.read_bytes(f"{gs_place}/job.json"))
    staged = storage.list_files(f"gs://{gs_place.split('/')[2]}/dataflow/staging")
    (graph,) = (file.uri for file in staged if file.path.endswith("pipeline.pb"))
    return sent, api.Pipeline.FromString(storage.read_bytes(graph))


def test_the_features_job(tmp_path, gs_place, options):
    world = worlds.make(tmp_path, seed=1)
    planned = plan_job(world.context(f"{gs_place}/out", mode="full"))

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | "Raw features" >> RawFeatures(planned)

    sent, graph = job(options, gs_place, build)
    assert len(json.dumps(sent)) < 1 << 20, "Dataflow takes 10 MB at most"
    names = {t.unique_name for t in graph.components.transforms.values()}
    assert {"Raw features", "Raw features/Read"} <= names
    environments = graph.components.environments.values()
    payloads = [api.DockerPayload.FromString(e.payload) for e in environments]
    assert {one.container_image for one in payloads} == {IMAGE.replace("PROJECT", "project")}
    [pool] = sent["environment"]["workerPools"]
    assert pool["machineType"] == "n2-highmem-4"
    # The image holds everything: no worker installs a package before it begins.
    payloads = [d.role_payload for e in environments for d in e.dependencies]
    staged = {api.ArtifactStagingToRolePayload.FromString(p).staged_name for p in payloads}
    assert staged == {"submission_environment_dependencies.txt", "pickled_main_session"}


def test_the_image_has_the_launcher_of_the_installed_beam():
    text = (ROOT / "docker/dataflow/Dockerfile").read_text()
    assert f"apache/beam_python3.12_sdk:{version('apache-beam')} " in text
