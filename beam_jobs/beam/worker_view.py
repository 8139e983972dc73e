"""Checks that workers and the client see the same files, and have the same packages.

A runner reports success when each worker has written its files, on whatever disk. If hosts do not share
`work_root`, or the client sees an old state of it, files are missing here. So the job counts the written
rows, and the client compares them with the footers of the files before any use. `twinspire doctor` asks a
worker beforehand, by a job of one element.
"""

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata

import apache_beam as beam
from apache_beam.pvalue import PCollection
from pydantic import BaseModel, ConfigDict

from beam_jobs.beam import engine
from twinspire_core import storage
from twinspire_core.errors import UsageError, listed
from twinspire_core.storage.parquet_files import count_rows, list_parquet
from twinspire_core.storage.store import map_each
from twinspire_core.version import __version__

ROWS = "rows.json"
"""File below the stage's output with the job's counts, until the job has ended."""
_REMEDY = (
    "The workers probably run on other hosts, or a network file system shows new files late. Set"
    " pipeline.work_root to an object store or to a shared folder with the same path on all hosts, and run"
    " the same command again."
)
_QUESTION = "question.json"
_ANSWER = "answer.json"


def write_rows(written: PCollection, out: str) -> None:
    """(folder below the stage's output, rows written to it) -> `ROWS`, the sums by folder."""
    # The file is also written without rows.
    nothing = written.pipeline | "No rows" >> beam.Create([("", 0)], reshuffle=False)
    counts = (written, nothing) | "Rows of all" >> beam.Flatten() | "Rows by 0" >> beam.WithKeys(0)
    uri = storage.join(out, ROWS)
    # Not by Beam's metrics, which count a repeated bundle twice.
    write = beam.MapTuple(lambda _, rows: _write(rows, uri))
    _ = counts | "Rows together" >> beam.GroupByKey() | "Write rows" >> write


def _write(counts: Iterable[tuple[str, int]], uri: str) -> None:
    rows: Counter[str] = Counter()
    for folder, n in counts:
        rows[folder] += n
    # `+` drops counts of 0, such as that of the empty name which `write_rows` adds.
    storage.write_bytes(uri, json.dumps(+rows).encode())


def take(out: str) -> dict[str, int]:
    """Reads the sums of `write_rows` that are not 0, removes the file, and compares them with the rows that
    the client sees.

    Raises:
      UsageError: the file is missing, or a folder has other rows.
    """
    uri = storage.join(out, ROWS)
    rows: dict[str, int] = json.loads(read_written(uri))
    storage.delete_file(uri)
    check_written(out, rows)
    return rows


def read_written(uri: str) -> bytes:
    """Reads a file that a step wrote.

    Raises:
      UsageError: it is missing.
    """
    try:
        return storage.read_bytes(uri)
    except FileNotFoundError:
        raise UsageError(
            f"Every worker must see the same work_root; a worker wrote {uri}, but it is not"
            f" here. {_REMEDY}"
        ) from None


def check_written(out: str, written: Mapping[str, int]) -> None:
    """Compares the rows that workers wrote with the Parquet files that the client sees.

    Args:
      out: URI of the stage's output.
      written: rows by folder below it.

    Raises:
      UsageError: a folder holds other rows.
    """
    # Counting by footers is cheap enough for every file of a run.
    seen = _rows(out, written)
    unlike = [
        f"{folder}: {rows:,} rows written, {seen[folder]:,} here"
        for folder, rows in written.items()
        if seen[folder] != rows
    ]
    if unlike:
        raise UsageError(
            f"Every worker must see the same work_root; found in {out}"
            f" {listed(unlike, separator='; ')}. {_REMEDY}"
        )


def _rows(out: str, folders: Iterable[str]) -> Counter[str]:
    """Rows of the Parquet files by folder."""
    files = {uri: folder for folder in folders for uri in list_parquet(storage.join(out, folder))}
    rows: Counter[str] = Counter()
    for folder, n in zip(files.values(), map_each(count_rows, files), strict=True):
        rows[folder] += n
    return rows


class Installation(BaseModel):
    """Python and packages on the machine of a process.

    Attributes:
      host: its machine's name.
      python: Python's version.
      packages: versions of packages by name; None if not installed.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    python: str
    packages: dict[str, str | None]


def installation(names: Sequence[str]) -> Installation:
    """The installation of this process, with packages of these names and `twinspire`."""
    packages = {name: _version(name) for name in names}
    # From its code, because a worker may have a checkout that is not installed.
    packages["twinspire"] = __version__
    return Installation(host=platform.node(), python=platform.python_version(), packages=packages)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def ask_worker(
    options: Sequence[str], names: Sequence[str], out: str, limit: float
) -> Installation:
    """Runs a job of one element: a worker reads a file of the client and writes one for it.

    Args:
      options: Beam's, as on its command line.
      names: packages whose versions are asked for.
      out: URI of an empty folder below `work_root`.
      limit: seconds that the job may take.

    Raises:
      UsageError: worker and client do not see each other's files, or the worker lacks this package.
      TwinspireError: as `engine.run_job` says.
    """
    question = storage.join(out, _QUESTION)
    answer = storage.join(out, _ANSWER)
    storage.write_bytes(question, json.dumps(list(names)).encode())

    def build(job: beam.Pipeline) -> None:
        _ = (
            job
            | "Ask" >> beam.Create([question], reshuffle=False)
            | "Answer" >> beam.Map(_answer, answer)
        )

    engine.run_job(options, build, out, limit)
    return Installation.model_validate_json(read_written(answer))


def _answer(question: str, answer: str) -> None:
    try:
        names = json.loads(storage.read_bytes(question))
    except FileNotFoundError:
        raise UsageError(
            f"Every worker must see the same work_root; {platform.node()} does not see"
            f" {question}, which the client wrote. Mount work_root there with the same path, or use"
            " an object store."
        ) from None
    storage.write_bytes(answer, installation(names).model_dump_json().encode())
