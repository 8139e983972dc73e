"""Other projects' recommenders, each called in a virtual environment of its own."""

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
    """TensorFlow Recommenders' two-tower on the features that ours is trained on."""
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
"""Peers that are given the whole log: `SCRIPT_peer.py` of each, and the environment it runs in;
the cheap ones first.
"""


def fit_on_log(
    name: str, prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path
) -> Fitted:
    """A peer that is given the whole log, with times, and all that is known of each query's user.

    Lists that come out short are filled up with what was popular on the last day.

    Args:
      name: of `ON_LOG`.
      prepared: the split.
      settings: of the contender.
      seed: of all chance.
      work: holds the environments.
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
    """Lists with what is missing at their ends taken from others, in order, without repeats; [Q, L]
    both.
    """
    short = np.flatnonzero((ranked < 0).any(axis=1))
    out = ranked.copy()
    for row in short:
        own = ranked[row][ranked[row] >= 0]
        other = more[row][~np.isin(more[row], own)]
        whole = np.concatenate([own, other])[: ranked.shape[1]]
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
        asked = Path(scratch) / "settings.json"
        out = Path(scratch) / "out.npz"
        asked.write_text(
            json.dumps({**settings, "cases": [slug(case.name) for case in prepared.split.cases]})
        )
        module = f"benchmarks.quality.{name}_peer"
        command = [str(python), "-m", module, str(folder.resolve()), str(asked), str(out)]
        quiet = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
            "TF_CPP_MIN_LOG_LEVEL": "3"
        }
        # From the root, where the module is found; folders are absolute.
        begin = cpu_seconds()
        done = subprocess.run(
            command, env=quiet, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            what = f"{name} on {prepared.split.name} with {settings}"
            sys.exit(f"{what} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        found = np.load(out)
        ranked = {
            case.name: found[slug(case.name)].astype(np.int64) for case in prepared.split.cases
        }
        return Fitted(ranked, cpu_seconds() - begin)
