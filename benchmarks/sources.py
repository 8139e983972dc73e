"""What does a candidate source add to what is served?

    python -m benchmarks.sources --json sources.json                  groceries, 14 days
    python -m benchmarks.sources --case globo --days 4 --json f.json   clicks
    python -m benchmarks.sources --no-towers                          of the sources that need no model alone

A two-tower is trained on the pipeline file's window, then day by day. Before a day is trained on,
each source makes a list for each of the day's users as of the start of the day, with constants
fitted on the days before. Of the lists of the days before, the weights of several fusions are
fitted: with the sources of release 0.2.0, and with others besides. On the day's users each of them
finds a recall@50; differences are paired, and their 95% intervals take users as the unit, over all
days. Nothing that is measured on a day has seen it. Days that are done are kept under --work: the
same command goes on after a stop.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

import numpy as np

from beam_jobs.features.raw_features_job import write_raw
from benchmarks.quality import data
from benchmarks.quality.command import machine, parse_setting, write_whole
from benchmarks.quality.prepare import override
from model.evaluation.day_data import NEXT_DAY, DayData, read_day, read_table
from model.evaluation.source_lists import queries_with
from model.evaluation.tower_lists import load_both, rank_with_towers
from model.fusion_fitting.fusion_weights import MAX_QUERIES, fit_weights
from model.fusion_fitting.source_constants import ConstantsFit, constants_before
from twinspire.runs import stages
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import PERSONAL, TRENDING, TWO_TOWER
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.source_constants import SourceConstants
from twinspire_core.contracts.stage_context import Parent, StageContext
from twinspire_core.fusion.fuse import DEPTH, fuse, pool_candidates
from twinspire_core.metrics.bootstrap import intervals, resampled_means
from twinspire_core.metrics.ranking import by_user
from twinspire_core.metrics.slices import slice_of
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import tables_of

K = 50
METRIC = f"recall@{K}"
BEFORE = ("two_tower", "past", "popular_lately", "most_popular", "co_occurrence")
"""The sources that a fusion has by default."""
FUSIONS = {
    "as now": BEFORE,
    "+ personal": (*BEFORE, PERSONAL),
    "+ trending": (*BEFORE, TRENDING),
    "+ both": (*BEFORE, PERSONAL, TRENDING),
}
ALL = FUSIONS["+ both"]
FITTED_DAYS = 3
"""Days before a day whose lists weights are fitted on."""
RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log whose days are measured.

    Attributes:
      p: its pipeline.
      first: the day of the first version.
      folder: where its days are kept.
    """

    p: Pipeline
    first: date
    folder: Path


def groceries(folder: Path, sample: int) -> Log:
    """Purchases, trained on 60 days at first."""
    places = data.groceries(folder, sample=sample)
    p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    p = override(p, {f"source.{table}": place for table, place in places.items()})
    return Log(p=p, first=date(2017, 10, 18), folder=folder)


def globo(folder: Path, sample: int) -> Log:
    """Clicks, trained on 7 days at first."""
    place = data.globo(folder, sample=sample)
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    return Log(p=override(p, {"source.events": place}), first=date(2017, 10, 7), folder=folder)


LOGS = {"groceries": groceries, "globo": globo}


def run_day(log: Log, n: int, *, towers: bool) -> None:
    """Lists of the n-th day, then its version, if there are towers; 0 is the day of the first
    version.
    """
    home = log.folder / "days" / str(n)
    if (home / "done").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    mode = "full" if towers else "incremental"
    context: dict[str, Any] = {"day": log.first + timedelta(days=n), "mode": mode}
    before = None
    if n and towers:
        before = log.folder / "days" / str(n - 1) / "train"
        context["mode"] = "incremental"
        context["parent"] = Parent(
            day=log.first + timedelta(days=n - 1),
            version=str(n - 1),
            home=str(before),
            train=str(before),
        )
    mixed = override(log.p, {"mix.sources": ALL})
    features = home / "features"
    ctx = StageContext(**context, pipeline=mixed, out=str(features), inputs={})
    if towers:
        stages.FEATURES.load()(ctx)
    else:
        write_raw(ctx, lambda rows: None)  # without a transform graph, which only towers need
    _keep_lists(ctx, features, before, home)
    if towers:
        _train(log, context, home)
    shutil.rmtree(features)
    if before and n > 1:
        shutil.rmtree(before)
    (home / "done").touch()


def _train(log: Log, context: Mapping[str, Any], home: Path) -> None:
    # What the train stage itself would mix is of no use here.
    p = override(log.p, {"mix.sources": (), "evaluation.resamples": 0})
    inputs = {"features": str(home / "features")}
    stages.TRAIN.load()(StageContext(**context, pipeline=p, out=str(home / "train"), inputs=inputs))


def _keep_lists(ctx: StageContext, features: Path, towers: Path | None, home: Path) -> None:
    """Writes the day's lists, by the towers of the day before, and its constants for the days after."""
    place = home.parent / str(int(home.name) - 1) / SourceConstants.FILE
    inherited = SourceConstants()
    if place.exists():
        inherited = SourceConstants.parse(place.read_bytes())
    day = read_day(ctx, features)
    tables = {
        name: read_table(features / name / feature_schema.AT_START) for name in tables_of(ALL)
    }
    constants = constants_before(inherited, ALL)
    sources = CandidateSources.of(day.corpus, tables, constants)
    fit = ConstantsFit(
        sources=sources, names=ALL, inherited=inherited, day=ctx.day, k=K, min_users=100
    )
    fitted = fit.fit(day.evaluation_sets[NEXT_DAY])
    (home / SourceConstants.FILE).write_bytes(fitted.dump())
    _write_lists(day, sources, towers, home, constants)


def _write_lists(
    day: DayData,
    sources: CandidateSources,
    towers: Path | None,
    home: Path,
    constants: Mapping[str, str],
) -> None:
    asked = day.evaluation_sets[NEXT_DAY]
    known = {}
    if towers is not None:
        both = load_both(towers)
        known[TWO_TOWER] = rank_with_towers(both, day.corpus, {NEXT_DAY: asked}, DEPTH)[NEXT_DAY]
    # Without towers their lists are empty, which no weight makes longer.
    lists = sources.retrieve(ALL, queries_with(asked, known), DEPTH)
    np.savez_compressed(
        home / "lists.npz",
        user=np.array(asked.queries["_user"].to_pylist()),
        past_events=asked.past_events,
        headline=asked.headline,
        taken=asked.truth.values,
        taken_by=asked.truth.row,
        constants=json.dumps(dict(constants)),
        **{name: found.items.astype(np.int32) for name, found in lists.items()},
    )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of a day."""

    user: np.ndarray
    past_events: np.ndarray
    headline: np.ndarray
    taken: Ragged
    lists: Mapping[str, np.ndarray]
    constants: Mapping[str, str]


def read_lists(log: Log, n: int) -> Kept:
    """The lists of the n-th day."""
    found = np.load(log.folder / "days" / str(n) / "lists.npz")
    return Kept(
        user=found["user"],
        past_events=found["past_events"],
        headline=found["headline"],
        taken=Ragged(found["taken"], found["taken_by"], len(found["user"])),
        lists={name: found[name].astype(np.int64) for name in ALL},
        constants=json.loads(str(found["constants"])),
    )


def recalls(days: Sequence[Kept], today: Kept, bounds: Sequence[int]) -> dict[str, np.ndarray]:
    """Recall of each query of a day, [U], by source and by fusion.

    Args:
      days: days before, that weights are fitted on.
      today: the day.
      bounds: where slices of users begin.
    """
    found = {}
    for name, ranked in today.lists.items():
        found[name] = by_user(ranked, today.taken, [K])[METRIC]
    for name, names in FUSIONS.items():
        weights = np.stack([_weights(days, names, bounds, n) for n in range(len(bounds) + 1)])
        of_query = weights[slice_of(today.past_events, bounds)]
        pool = pool_candidates([today.lists[source] for source in names])
        found[name] = by_user(fuse(pool, of_query, K).items, today.taken, [K])[METRIC]
    return found


def _weights(
    days: Sequence[Kept], names: Sequence[str], bounds: Sequence[int], number: int
) -> np.ndarray:
    """Weights of a slice of users; of all users, if these are too few."""
    rows = [np.flatnonzero(slice_of(day.past_events, bounds) == number) for day in days]
    if sum(map(len, rows)) < 100:
        rows = [np.arange(len(day.user)) for day in days]
    most = MAX_QUERIES // len(days)
    rows = [some[np.linspace(0, len(some) - 1, min(len(some), most)).astype(int)] for some in rows]
    lists = [
        np.concatenate([day.lists[name][some] for day, some in zip(days, rows, strict=True)])
        for name in names
    ]
    taken = [day.taken.take(some) for day, some in zip(days, rows, strict=True)]
    values = np.concatenate([one.values for one in taken])
    truth = Ragged.of_lengths(values, np.concatenate([one.lengths for one in taken]))
    return fit_weights(pool_candidates(lists), truth, [K, 10])


def measure(log: Log, days: int) -> list[dict[str, Any]]:
    """Rows of the table: what each source and fusion found, and its difference from what is now."""
    bounds = log.p.evaluation.slices
    kept = [read_lists(log, n) for n in range(1, days + 1)]
    parts = []
    for n in range(1, len(kept)):
        found = recalls(kept[max(0, n - FITTED_DAYS) : n], kept[n], bounds)
        parts.append({name: values[kept[n].headline] for name, values in found.items()})
    users = np.concatenate([day.user[day.headline] for day in kept[1:]])
    _, user = np.unique(users, return_inverse=True)
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    more = {name: values[name] - values["as now"] for name in values}
    spans = intervals(resampled_means(more, user, RESAMPLES))
    return [
        {
            "name": name,
            METRIC: float(np.nanmean(values[name])),
            "by_day": [float(np.nanmean(part[name])) for part in parts],
            "more": float(np.nanmean(more[name])),
            "low": float(spans[name][0]),
            "high": float(spans[name][1]),
            "queries": len(user),
            "users": int(user.max()) + 1,
        }
        for name in values
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'lists':18}{METRIC:>10}  more than as now, 95% interval"]
    for row in rows:
        span = f"{row['more']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        lines.append(f"{row['name']:18}{row[METRIC]:10.4f}  {span}")
    lines.append(f"{rows[0]['queries']:,} queries of {rows[0]['users']:,} users")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=list(LOGS), default="groceries", help="which log")
    parser.add_argument("--sample", type=int, default=1, help="one user in so many")
    parser.add_argument("--days", type=int, default=14, help="days after the first version's")
    parser.add_argument("--no-towers", action="store_true", help="train no two-tower")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the pipeline file"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "sources", help="where days are kept"
    )
    options = parser.parse_args()
    log = LOGS[options.case](options.work / f"{options.case}-{options.sample}", options.sample)
    settings = dict(parse_setting(text) for text in options.set)
    log = Log(p=override(log.p, settings), first=log.first, folder=log.folder)
    for n in range(options.days + 1):
        run_day(log, n, towers=not options.no_towers)
        print(log.first + timedelta(days=n), flush=True)
    rows = measure(log, options.days)
    chosen = [read_lists(log, n).constants for n in range(1, options.days + 1)]
    if options.json:
        found = {"machine": machine(), "lists": rows, "constants": chosen}
        write_whole(options.json, json.dumps(found, indent=1))
    print(table(rows))
    print(chosen[-1])


if __name__ == "__main__":
    main()
