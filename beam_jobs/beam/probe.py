"""A job of one element, in which a worker of `beam.options` tells what it has and what it sees."""

import json
import platform
from collections.abc import Sequence
from importlib import metadata

import apache_beam as beam
from pydantic import BaseModel, ConfigDict

from beam_jobs.beam import engine
from beam_jobs.beam.written_rows import read_written
from twinspire_core import storage
from twinspire_core.errors import UsageError
from twinspire_core.version import __version__

_QUESTION = "question.json"
_ANSWER = "answer.json"


class Installation(BaseModel):
    """What a process runs on.

    Attributes:
      host: its machine's name.
      python: Python's version.
      packages: versions of packages by name; None for what is not installed.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    python: str
    packages: dict[str, str | None]


def installation(names: Sequence[str]) -> Installation:
    """This process's, with packages of these names. This package's own is always among them."""
    packages = {name: _version(name) for name in names}
    # By its code: a worker may have a checkout of it that is not installed.
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
    """Has a worker read a file of the client's and write one for it.

    Args:
      names: of the packages whose versions are asked for.
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
        asked = job | "Ask" >> beam.Create([question], reshuffle=False)
        _ = asked | "Answer" >> beam.Map(_answer, answer)

    engine.run_job(options, build, out, limit)
    return Installation.model_validate_json(read_written(answer))


def _answer(question: str, answer: str) -> None:
    try:
        names = json.loads(storage.read_bytes(question))
    except FileNotFoundError:
        raise UsageError(
            f"work_root must be a place that every worker sees; {platform.node()} does not see"
            f" {question}, which the client wrote. Mount work_root there by the same path, or use"
            " gs://."
        ) from None
    storage.write_bytes(answer, installation(names).model_dump_json().encode())
