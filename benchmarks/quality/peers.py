"""Other projects' recommenders, each called in its own virtual environment."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import arrays
from benchmarks.quality.command import cpu_seconds, environment
from benchmarks.quality.lists import popular_lately
from benchmarks.quality.prepare import Fitted, Prepared, slug

ROOT = Path(__file__).resolve().parents[2]


def fit_tfrs(prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path) -> Fitted:
    """TensorFlow Recommenders' two-tower, on the same features as ours."""
    folder = prepared.folder / f"arrays-{settings['dimension']}"
    arrays.write_features(prepared, folder, settings["dimension"])
    return _call("tfrs", prepared, {**settings, "seed": seed}, folder, work)


ON_LOG: Mapping[str, tuple[str, str]] = {
    "tifu_knn": ("basket", "scipy"),
    "vstan": ("session", "scipy"),
    "ials": ("irspack", "irspack"),
    "sasrec": ("rectools", "rectools"),
    "hstu": ("rectools", "rectools"),
}
"""Peers that get the whole log: the script `NAME_peer.py` and the environment of each, cheap ones first."""


def fit_on_log(
    name: str, prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path
) -> Fitted:
    """Runs a peer that gets the whole log, with times, and the history of each query's user.

    Short lists are filled up with items that were popular on the last day.

    Args:
      name: a key of `ON_LOG`.
      work: folder with the environments.
    """
    folder = prepared.folder / f"arrays-log-{prepared.digest[:12]}"
    arrays.write_log(prepared, folder)
    script, home = ON_LOG[name]
    fitted = _call(script, prepared, {**settings, "seed": seed}, folder, work, home)
    filled = {
        case.name: filled_up(fitted.ranked[case.name], popular_lately(prepared, case))
        for case in prepared.split.cases
    }
    return fitted._replace(ranked=filled)


def filled_up(ranked: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Lists, [Q, L], filled up from the lists `more`, [Q, L], without repeats."""
    short = np.flatnonzero((ranked < 0).any(axis=1))
    out = ranked.copy()
    for row in short:
        items = ranked[row][ranked[row] >= 0]
        rest = more[row][~np.isin(more[row], items)]
        whole = np.concatenate([items, rest])[: ranked.shape[1]]
        out[row, : len(whole)] = whole
    return out


def _call(
    name: str,
    prepared: Prepared,
    settings: Mapping[str, Any],
    folder: Path,
    work: Path,
    home: str | None = None,
) -> Fitted:
    python = environment(home or name, work.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        settings_file = Path(scratch) / "settings.json"
        out = Path(scratch) / "out.npz"
        settings_file.write_text(
            json.dumps({**settings, "cases": [slug(case.name) for case in prepared.split.cases]})
        )
        module = f"benchmarks.quality.{name}_peer"
        command = [str(python), "-m", module, str(folder.resolve()), str(settings_file), str(out)]
        quiet = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "TF_CPP_MIN_LOG_LEVEL": "3"
        }
        # Python finds the module from the root; folders are absolute.
        begin = cpu_seconds()
        done = subprocess.run(
            command, env=quiet, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            run = f"{name} on {prepared.split.name} with {settings}"
            sys.exit(f"{run} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        output = np.load(out)
        ranked = {
            case.name: output[slug(case.name)].astype(np.int64) for case in prepared.split.cases
        }
        return Fitted(ranked, cpu_seconds() - begin)
