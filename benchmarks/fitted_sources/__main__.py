"""What candidate sources that are fitted on users' sequences add to the simpler ones.

    python -m benchmarks.fitted_sources films

Each source lists for users of some test days what was known at the start of the day (films: of the
split). Measured is recall@50: of the source alone, and of the fusion of the simpler sources with
and without it, both with weights fitted on earlier days; the interval of the difference is a
bootstrap over users. Nothing is chosen on test days. No two-tower takes part.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from benchmarks.fitted_sources.cases import CASES
from benchmarks.fitted_sources.moments import Case, Moment
from model.fusion_fitting.fusion_weights import MAX_QUERIES, fit_weights
from twinspire_core.config import source_names
from twinspire_core.fusion.candidate_pool import CandidatePool, pool_candidates
from twinspire_core.fusion.fuse import DEPTH, fuse
from twinspire_core.metrics.ranking import contains
from twinspire_core.search.ragged import Ragged, list_offsets
from twinspire_core.sources import (
    co_visitation,
    co_visitation_fitting,
    ease,
    ials,
    user_neighbours,
)
from twinspire_core.sources.fitted_tables import FITS
from twinspire_core.sources.item_weights import to_table
from twinspire_core.sources.registry import SOURCES
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import SourceTables

K = 50
BASE = ("past", "popular_lately", "most_popular", "co_occurrence", "personal", "trending")
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A source with its constants.

    Attributes:
      source: its name.
      tables: what makes its tables, by name: by default those of the feature job.
      constant: its choice.
    """

    source: str
    tables: Mapping[str, Callable[[Sequences, pa.Array], pa.Table]] | None = None
    constant: str | None = None


def _ease(penalty: float) -> Mapping[str, Callable[[Sequences, pa.Array], pa.Table]]:
    return {ease.TABLE: partial(ease.fit, penalty=penalty)}


def _ials(**changes: Any) -> Mapping[str, Callable[[Sequences, pa.Array], pa.Table]]:
    return {ials.TABLE: partial(ials.fit, settings=ials.SETTINGS._replace(**changes))}


def _pairs(reach: float, half_life: float, exponent: float) -> Mapping[str, Any]:
    settings = co_visitation_fitting.CoVisitationSettings(reach, half_life, exponent)

    def fit(sequences: Sequences, corpus: pa.Array) -> pa.Table:
        rows, similarities = co_visitation_fitting.fit(
            sequences, len(corpus), settings, co_visitation.KEPT
        )
        return to_table(rows, similarities, corpus)

    return {co_visitation.TABLES[co_visitation.CoVisitation.default]: fit}


TRIALS: Mapping[str, Trial] = {
    **{
        f"user_neighbours, own {choice}": Trial(source="user_neighbours", constant=choice)
        for choice in user_neighbours.OWN
    },
    "session_neighbours": Trial(source="session_neighbours"),
    **{
        f"co_visitation, {choice}": Trial(source="co_visitation", constant=choice)
        for choice in co_visitation.SETTINGS
    },
    "co_visitation, 6 h, exponent 1/4": Trial(source="co_visitation", tables=_pairs(1, 0.25, 0.25)),
    **{
        f"ease, lambda {penalty}": Trial(source="ease", tables=_ease(penalty))
        for penalty in (50, 200, 800)
    },
    "ials": Trial(source="ials"),
    "ials, a .3": Trial(source="ials", tables=_ials(unobserved=0.3)),
}


def run_case(case: Case, names: list[str]) -> dict[str, Any]:
    """The figures of a case: of each source alone, and of the fusion with it."""
    moments = [Moment.of(case, day) for day in (*case.fitted, *case.tested)]
    fitted, tested = moments[: len(case.fitted)], moments[len(case.fitted) :]
    lists: dict[str, list[np.ndarray]] = {}
    constants: dict[str, str] = {}
    for source in BASE:
        _choose(source, moments, len(fitted), lists, constants)
    alone = {name: _alone(lists[name], moments, len(fitted)) for name in BASE}
    _, base = _fused(list(BASE), lists, fitted, tested)
    users = np.concatenate([moment.asked.user for moment in tested])
    found: dict[str, Any] = {
        "users": len(np.unique(users)),
        "queries": len(users),
        "constants": constants,
        "alone": alone,
        "base": round(float(base.mean()), 4),
        "trials": {},
    }
    for name in names:
        start = time.time()
        lists[name] = [_lists(moment, TRIALS[name]) for moment in moments]
        seconds = (time.time() - start) / len(moments)
        weight, recall = _fused([*BASE, name], lists, fitted, tested)
        low, high = _interval(recall - base, users)
        found["trials"][name] = {
            "alone": _alone(lists[name], moments, len(fitted)),
            "with": round(float(recall.mean()), 4),
            "gain": round(float((recall - base).mean()), 4),
            "interval": [round(low, 4), round(high, 4)],
            "weight": round(weight, 2),
            "seconds": round(seconds, 1),
        }
        print(name, found["trials"][name], file=sys.stderr, flush=True)
    return found


def _choose(
    source: str,
    moments: list[Moment],
    fitted: int,
    lists: dict[str, list[np.ndarray]],
    constants: dict[str, str],
) -> None:
    """The lists of a simpler source, with the constant that finds most on the earlier days."""
    choices = SOURCES[source].choices or ("",)
    best = -1.0
    for choice in choices:
        made = [_base_lists(moment, source, choice) for moment in moments[:fitted]]
        recall = np.concatenate(
            [_recall(ranked, moment) for ranked, moment in zip(made, moments, strict=False)]
        ).mean()
        if recall > best:
            best = recall
            constants[source] = choice
    lists[source] = [_base_lists(moment, source, constants[source]) for moment in moments]
    if not constants[source]:
        del constants[source]


def _base_lists(moment: Moment, source: str, choice: str) -> np.ndarray:
    others = {}
    if source == source_names.CO_OCCURRENCE:
        others[source] = moment.co_occurrence
    return _retrieve(moment, source, others, choice)


def _lists(moment: Moment, trial: Trial) -> np.ndarray:
    made = trial.tables
    if made is None:
        made = {name: FITS[name] for name in SOURCES[trial.source].tables}
    corpus = moment.corpus["_item"].combine_chunks()
    sequences = moment.sequences
    tables = {name: fit(sequences, corpus) for name, fit in made.items()}
    return _retrieve(moment, trial.source, tables, trial.constant or "")


def _retrieve(
    moment: Moment, source: str, others: Mapping[str, pa.Table], choice: str
) -> np.ndarray:
    """[Q, DEPTH] int64."""
    tables = SourceTables(corpus=moment.corpus, others=others, constants={source: choice})
    made = SOURCES[source].of(tables)
    assert made is not None
    queries = moment.queries
    exclude = None
    if moment.case.exclude_seen:
        exclude = queries.seen
    return made.lists(queries, DEPTH, exclude=exclude, passing=moment.passing).items


def _alone(lists: list[np.ndarray], moments: list[Moment], fitted: int) -> list[float]:
    """Recall on the days that are fitted on, and on those that are tested."""
    recalls = [_recall(ranked, moment) for ranked, moment in zip(lists, moments, strict=True)]
    parts = recalls[:fitted], recalls[fitted:]
    return [round(float(np.concatenate(part).mean()), 4) for part in parts]


def _recall(ranked: np.ndarray, moment: Moment) -> np.ndarray:
    """Recall@K of each query, [Q]."""
    truth = moment.asked.truth
    hits = contains(truth, ranked[:, :K]).sum(axis=1)
    recall: np.ndarray = hits / truth.lengths
    return recall


def _fused(
    names: list[str],
    lists: Mapping[str, list[np.ndarray]],
    fitted: list[Moment],
    tested: list[Moment],
) -> tuple[float, np.ndarray]:
    """The last source's weight, and the fusion's recall for each query tested."""
    pools = [
        pool_candidates([lists[name][number] for name in names])
        for number in range(len(fitted) + len(tested))
    ]
    weights = _weights(pools[: len(fitted)], fitted)
    recalls = []
    for pool, moment in zip(pools[len(fitted) :], tested, strict=True):
        ranked = fuse(pool, np.tile(weights, (len(pool.items), 1)), K).items
        recalls.append(_recall(ranked, moment))
    return float(weights[-1]), np.concatenate(recalls)


def _weights(pools: list[CandidatePool], moments: list[Moment]) -> np.ndarray:
    width = max(pool.items.shape[1] for pool in pools)
    items = [
        np.pad(p.items, ((0, 0), (0, width - p.items.shape[1])), constant_values=-1) for p in pools
    ]
    gains = [np.pad(p.gains, ((0, 0), (0, width - p.gains.shape[1]), (0, 0))) for p in pools]
    pool = CandidatePool(np.concatenate(items), np.concatenate(gains))
    offsets = list_offsets(np.array([len(p.items) for p in pools]))
    row = [m.asked.truth.row + offset for m, offset in zip(moments, offsets, strict=False)]
    values = np.concatenate([m.asked.truth.values for m in moments])
    truth = Ragged(values, np.concatenate(row), int(offsets[-1]))
    some = np.linspace(0, truth.rows - 1, min(truth.rows, MAX_QUERIES)).astype(int)
    pool = CandidatePool(pool.items[some], pool.gains[some])
    return fit_weights(pool, truth.take(some), [K, 10])


def _interval(change: np.ndarray, user: np.ndarray) -> tuple[float, float]:
    """95% of the mean change over bootstrap samples of the users."""
    users, inverse = np.unique(user, return_inverse=True)
    sums = np.bincount(inverse, change)
    counts = np.bincount(inverse)
    draw = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        times = draw.multinomial(len(users), np.full(len(users), 1 / len(users)))
        means.append((times @ sums) / (times @ counts))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main(
    case: Annotated[str, typer.Argument(help=f"One of {', '.join(CASES)}.")],
    work: Annotated[Path, typer.Option(help="Where data is kept.")] = Path("work/sources"),
    trial: Annotated[list[str] | None, typer.Option(help="Only these; several times.")] = None,
) -> None:
    """Prints one JSON object."""
    found = run_case(CASES[case](work), trial or list(TRIALS))
    print(json.dumps({"case": case, **found}))


if __name__ == "__main__":
    typer.run(main)
