"""Commands as they are typed, and what they leave behind."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from index_builder.registry.registry import Registry
from tests import warm
from tests.conftest import ONE_THREAD
from twinspire.runs import run_leases
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import attempts

ROOT = Path(__file__).parents[2]
FIRST, SECOND, THIRD = "2024-03-09", "2024-03-10", "2024-03-11"
STAGES = ("features", "train", "measure", "embed", "index", "publish")


def twinspire(*arguments, check=0):
    """Runs a command in a separate process that has imported what it needs; the JSON of its last
    line.
    """
    return _told(*warm.run(*arguments), check)


def typed(*arguments, check=0):
    """The same as a user types it and Airflow starts it."""
    command = [sys.executable, "-m", "twinspire", *arguments]
    env = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return _told(done.returncode, done.stdout, done.stderr, check)


def _told(code, out, err, check):
    assert check is None or code == check, err[-3000:]
    return json.loads(out.splitlines()[-1]) if out.strip() else err


def attempt(pipeline_file, day, stage) -> Path:
    return Path(attempts.latest(load(pipeline_file), date.fromisoformat(day), stage).uri)


def output(pipeline_file, stage) -> str:
    """The digest of what a stage of the third day has made."""
    return attempts.latest(load(pipeline_file), date.fromisoformat(THIRD), stage).output


def registry_of(pipeline_file) -> Registry:
    p = load(pipeline_file)
    return Registry(p.registry.root, p.name)


def state(pipeline_file, day) -> str | None:
    return run_leases.state(load(pipeline_file), date.fromisoformat(day))


def result(pipeline_file, day) -> dict:
    """What must be equal whenever a day is run on the same inputs: files, numbers and versions, no
    clock times.
    """
    features, train = attempt(pipeline_file, day, "features"), attempt(pipeline_file, day, "train")
    files = [
        f
        for name in ("examples", "corpus", "evaluation", "users")
        for f in (features / name).rglob("*.parquet")
    ]
    files += list((features / "transform").rglob("assets/*"))
    made = {str(f.relative_to(features)): f.read_bytes() for f in files}
    for f in sorted((train / "state").rglob("*.npz")):
        made |= {f"{f.name}:{k}": v.tobytes() for k, v in np.load(f).items()}
    vectors = pq.read_table(attempt(pipeline_file, day, "embed") / "items")
    registry = registry_of(pipeline_file)
    return made | {
        "items": vectors["_item"].to_pylist(),
        "vectors": np.stack(vectors["vector"].to_numpy(zero_copy_only=False)).tobytes(),
        "parent": registry.manifest(registry.state().accepted[-1]).parent,
        "files": {
            p: f.sha256
            for p, f in registry.verify(registry.state().accepted[-1]).files.items()
            if p != "report.html"
        },
        "log": [(e.action, e.version, e.live) for e in registry.log()],
    }
