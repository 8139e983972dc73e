"""One folder per run of a contender, so that a stopped benchmark can continue.

work/runs/LOG/CONTENDER-DAY-SEED-DIGEST/
values-CASE.npz       measures by query, of lists with and without seen items
run.json              settings, CPU seconds; written last
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import contenders
from benchmarks.quality.command import write_whole
from benchmarks.quality.data import ROOT
from benchmarks.quality.lists import popular
from benchmarks.quality.prepare import Fitted, Prepared, slug
from benchmarks.quality.splits import Case
from twinspire.runs import stages
from twinspire_core.metrics.list_metrics import by_user
from twinspire_core.search.ragged import Ragged, positions
from twinspire_core.sources.popular_and_history import past_then

KS = (10, 50)
KINDS = ("kept", "left out")
"""Lists with and without seen items."""
MEASURES = ("recall@50", "recall@10", "ndcg@10")
COVERAGE = "coverage@50"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A contender's run with one seed.

    Attributes:
      record: the content of run.json.
    """

    folder: Path
    record: Mapping[str, Any]

    def values(self, case: Case, kind: str) -> dict[str, np.ndarray]:
        """Measures of one of `KINDS`, [Q] each; and the coverage of all lists, a number."""
        file = np.load(self.folder / f"values-{slug(case.name)}.npz")
        return {name: file[f"{kind}/{name}"] for name in (*MEASURES, COVERAGE)}


def run_folder(
    work: Path, prepared: Prepared, name: str, settings: Mapping[str, Any], seed: int
) -> Path:
    """The folder of a run; another one for other inputs, settings or code."""
    key = {
        "inputs": prepared.digest,
        "settings": contenders.resolved(name, prepared, settings),
        "code": _code(contenders.code_of(name)),
    }
    home = work / "runs" / slug(prepared.split.name)
    return home / f"{slug(name)}-{prepared.split.last}-{seed}-{stages.digest(key)[:12]}"


def find(folder: Path) -> Run | None:
    """A finished run; None if there is none."""
    file = folder / "run.json"
    return Run(folder=folder, record=json.loads(file.read_text())) if file.exists() else None


def keep(
    folder: Path, prepared: Prepared, fitted: Fitted, settings: Mapping[str, Any], seed: int
) -> Run:
    """Scores a run's lists and keeps the measures."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in prepared.split.cases:
        np.savez(folder / f"values-{slug(case.name)}.npz", **score(prepared, case, fitted))
    record = {
        "settings": dict(settings),
        "seed": seed,
        "cpu": round(fitted.cpu, 2),
    }
    write_whole(folder / "run.json", json.dumps(record, indent=1, default=str))
    return Run(folder=folder, record=json.loads((folder / "run.json").read_text()))


def score(prepared: Prepared, case: Case, fitted: Fitted) -> dict[str, np.ndarray]:
    """Measures of a contender's lists.

    If a contender makes no lists without seen items, seen items are removed from its lists, and short lists
    are filled up with popular items.

    Args:
      fitted: lists of positions in the catalogue, -1 after the end.

    Returns: [Q] by `KIND/MEASURE`; a number by `KIND/coverage@50`.
    """
    corpus = prepared.corpus()["_item"].to_arrow()
    wanted = positions(prepared.truth(case)["_truth"].to_arrow(), corpus)
    ranked = fitted.ranked[case.name]
    if fitted.unseen is not None:
        unseen = fitted.unseen[case.name]
    else:
        seen = positions(prepared.queries(case)["_before"].to_arrow(), corpus)
        filled = np.concatenate([ranked, popular(prepared, case)], axis=1)
        nothing_more = np.zeros(0, np.int64)
        unseen = past_then(Ragged.of_table(filled), nothing_more, max(KS), exclude=seen)
    measures: dict[str, np.ndarray] = {}
    for kind, lists in zip(KINDS, (ranked, unseen), strict=True):
        values = by_user(lists[:, : max(KS)], wanted, KS)
        measures |= {f"{kind}/{name}": values[name] for name in MEASURES}
        listed = lists[:, :50]
        share = len(np.unique(listed[listed >= 0])) / max(len(corpus), 1)
        measures[f"{kind}/{COVERAGE}"] = np.array(share)
    return measures


def _code(files: Sequence[str]) -> str:
    return hashlib.sha256(
        b"".join((ROOT / file).read_bytes() for file in sorted(files))
    ).hexdigest()
