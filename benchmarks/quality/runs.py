"""One folder per run of a contender, so that a stopped benchmark goes on where it was.

    work/runs/SPLIT/CONTENDER-SEED-DIGEST/
        lists-CASE.parquet    `_query`, `items`: 100 per query, best first
        values-CASE.npz       measures by query
        run.json              settings, seconds, measures; written last

Contenders of ours with equal settings share a run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.quality import contenders
from benchmarks.quality.command import write_whole
from benchmarks.quality.data import ROOT
from benchmarks.quality.ours import Fitted
from benchmarks.quality.prepare import Prepared, slug
from benchmarks.quality.splits import Case
from model.score_lists import score_file
from twinspire.runs import cache_keys
from twinspire_core.metrics.ranking import by_user
from twinspire_core.search.ragged import positions

KS = (10, 50, 100)
_SEEN_BY_OURS = (
    "model/*.py",
    "twinspire_core/config/tables/*.py",
    "twinspire_core/config/feature_kinds.py",
)
_SEEN_BY_PEERS = (
    "benchmarks/quality/*_peer.py",
    "benchmarks/quality/arrays.py",
    "benchmarks/quality/lists.py",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A contender's run with one seed.

    Attributes:
      folder: where it is kept.
      told: what run.json says.
    """

    folder: Path
    told: Mapping[str, Any]

    def values(self, case: Case) -> dict[str, np.ndarray]:
        """[Q] by measure."""
        return dict(np.load(self.folder / f"values-{slug(case.name)}.npz"))


def place(
    work: Path, prepared: Prepared, name: str, settings: Mapping[str, Any], seed: int
) -> Path:
    """The folder of a run; it is another one for other inputs, settings or code."""
    ours = name.startswith("twinspire")
    what = {
        "inputs": prepared.digest,
        "settings": contenders.resolved(name, prepared, settings) if ours else dict(settings),
        "code": _code(*(_SEEN_BY_OURS if ours else _SEEN_BY_PEERS)),
    }
    home = work / "runs" / slug(prepared.split.name)
    return home / f"{'twinspire' if ours else name}-{seed}-{cache_keys.digest(what)[:12]}"


def find(folder: Path) -> Run | None:
    """A run that is done."""
    told = folder / "run.json"
    return Run(folder=folder, told=json.loads(told.read_text())) if told.exists() else None


def keep(
    folder: Path, prepared: Prepared, fitted: Fitted, settings: Mapping[str, Any], seed: int
) -> Run:
    """Scores a run's lists and keeps both."""
    folder.mkdir(parents=True, exist_ok=True)
    measures = {}
    for case in prepared.split.cases:
        measures[case.name], values = score(prepared, case, fitted.ranked[case.name], folder)
        np.savez(folder / f"values-{slug(case.name)}.npz", **values)
    told = {
        "settings": dict(settings),
        "seed": seed,
        "seconds": round(fitted.seconds, 2),
        "rate": fitted.rate and round(fitted.rate),
        "measures": measures,
    }
    write_whole(folder / "run.json", json.dumps(told, indent=1, default=str))
    return Run(folder=folder, told=json.loads((folder / "run.json").read_text()))


def score(
    prepared: Prepared, case: Case, ranked: np.ndarray, folder: Path
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Writes lists as a file and has that scored by what is behind `twinspire evaluate --recs`.

    Args:
      prepared: the split.
      case: one of its cases.
      ranked: [Q, 100] positions in the catalogue, -1 behind the end.
      folder: where the file goes.

    Returns: means by measure; [Q] by measure.
    """
    corpus = prepared.corpus()
    truth = prepared.truth(case)
    file = folder / f"lists-{slug(case.name)}.parquet"
    as_lists(truth["_query"], ranked, corpus["_item"]).write_parquet(file)
    means = score_file(str(file), truth.to_arrow(), KS, corpus.select("_item").to_arrow())
    wanted = positions(truth["_truth"].to_arrow(), corpus["_item"].to_arrow())
    return means, by_user(ranked, wanted, KS)


def as_lists(queries: pl.Series, ranked: np.ndarray, items: pl.Series) -> pl.DataFrame:
    """`_query` and `items`, from positions."""
    there = ranked >= 0
    offsets = np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int32)
    named = items.to_arrow().cast(pa.string()).take(pa.array(ranked[there]))
    return pl.DataFrame(
        {"_query": queries, "items": pl.from_arrow(pa.ListArray.from_arrays(offsets, named))}
    )


def _code(*patterns: str) -> str:
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
