"""What `doctor` looks at where `beam.options` name a runner: whether it answers, and its workers.

Loads Beam.
"""

import secrets
from collections.abc import Iterator, Sequence

import grpc
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.beam import engine, job_service, worker_view
from beam_jobs.beam.job_service import JobService
from beam_jobs.beam.worker_view import Installation
from twinspire.cli.doctor import Check
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import TwinspireError, format_message, listed

LIMIT = 180.0
"""Seconds that the workers have for the job of one element: they import TensorFlow first."""

# A job there takes minutes and is paid for.
_NOT_ASKED = ("DataflowRunner",)


def examine_runner(pipeline: Pipeline, packages: Sequence[str]) -> Iterator[Check]:
    """Looks at the job service, and has a worker answer a job of one element.

    Args:
      pipeline: whose runner; nothing is looked at if it is that of this process.
      packages: whose versions are compared.
    """
    options = pipeline.beam.options
    runner = engine.runner_of(options)
    if runner is None:
        return
    endpoint = engine.endpoint_of(PipelineOptions(list(options)))
    service = _service(runner, endpoint)
    yield service
    root = pipeline.pipeline.work_root
    if runner in _NOT_ASKED:
        yield _cloud_place(runner, root)
    elif service.state == "ok":
        yield from _workers(pipeline, packages)


def _service(runner: str, endpoint: str) -> Check:
    if not endpoint:
        return Check(
            "runner", "beam.options", "ok", f"{runner}, which has no job service of its own"
        )
    service = JobService(endpoint)
    try:
        service.wait()
        jobs = len(service.running())
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        found = f"{runner}: no job service answers at {endpoint} ({job_service.reason_of(error)})"
        remedy = "Start it, or mend --job_endpoint in beam.options."
        return Check("runner", "beam.options", "failure", found, remedy)
    found = f"{runner}: the job service at {endpoint} answers; {jobs:,} jobs run there"
    return Check("runner", "beam.options", "ok", found)


def _cloud_place(runner: str, root: str) -> Check:
    if not storage.is_remote(root):
        found = f"{runner}, and work_root is {root}, which its workers cannot see"
        return Check("runner", "work_root", "failure", found, "Set pipeline.work_root to gs://…")
    found = f"{root}; workers are not asked: a job there takes minutes and is paid for"
    return Check("runner", "work_root", "ok", found)


def _workers(pipeline: Pipeline, packages: Sequence[str]) -> Iterator[Check]:
    root = pipeline.pipeline.work_root
    out = storage.join(root, f".tmp-doctor-{secrets.token_hex(4)}")
    try:
        worker = worker_view.ask_worker(pipeline.beam.options, packages, out, LIMIT)
    except TwinspireError as error:
        # The message may name the log in this folder, and says what to do.
        yield Check("runner", "worker", "failure", format_message(error))
        return
    storage.delete_tree(out)
    place = f"{worker.host} read a file of the client's in {root}, and the client one of its"
    yield Check("runner", "shared place", "ok", place)
    yield compare(worker, worker_view.installation(packages))


def compare(worker: Installation, client: Installation) -> Check:
    """Whether a worker has what the client has."""
    unlike = [
        f"{name} {worker.packages.get(name) or 'missing'} ({version or 'missing'} here)"
        for name, version in client.packages.items()
        if worker.packages.get(name) != version
    ]
    missing = [name for name, version in client.packages.items() if version]
    missing = [name for name in missing if not worker.packages.get(name)]
    if worker.python.rpartition(".")[0] != client.python.rpartition(".")[0]:
        unlike.insert(0, f"Python {worker.python} ({client.python} here)")
        missing.append("python")
    if not unlike:
        found = f"{worker.host}: Python {worker.python}, {len(client.packages)} packages as here"
        return Check("runner", "worker", "ok", found)
    found = f"{worker.host} differs: {listed(unlike, 6)}"
    remedy = "Install the versions of requirements.lock on the workers."
    # Another version may do; another Python cannot read what the client sends.
    return Check("runner", "worker", "failure" if missing else "warning", found, remedy)
