"""What a user gets: versions that the real daily pipeline made, day after day, asked as a server
asks them.

A chain begins `Log.chained` days before the first test day with a version that is trained from scratch
(its ranker learns from a replay of the days before); each later one goes on from the one before, through
all stages and the gate. On a day answers the version that was live in the morning.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.quality.command import cpu_seconds
from benchmarks.quality.prepare import Fitted, Prepared, override, slug
from benchmarks.quality.splits import Case, Split
from index_builder.registry.parents import parent_of
from index_builder.registry.version_log import version_date
from serving.answers.recommend import recommend
from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from twinspire.runs import run_leases, runner, stages
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import STAGES
from twinspire_core.config import pipeline
from twinspire_core.config.feature_kinds import TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.errors import GateRefused

SOURCES: Mapping[str, str | None] = {
    "twinspire/served": None,
    "twinspire/ranked": RANKED,
    "twinspire/fixed-order": FIXED_ORDER,
    "twinspire/two-tower": TWO_TOWER,
    "twinspire/first-version": None,
    "twinspire/after-28-days": None,
}
"""What versions are asked for. Served is what a version answers where a request does not say: the
ranker, where the gate let it serve, else the fixed order. Ranked is the ranker whether it serves or not; a
version for which too few users were there to fit one answers as it serves. The last two are the same of
other chains: on each day a first version answers, or one of a chain that is `LATER` days older.
"""
LATER = 28
ON_DEMAND = ("twinspire/first-version", "twinspire/after-28-days")
"""Contenders whose chains are too costly to run without being named."""
SETTINGS: Mapping[str, Any] = {"serving.user_store": True}
"""Put over the pipeline files: users are asked for by id, and all that a version knows of them counts."""
LENGTH = 100
_BATCH = 2_000


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Days that one pipeline runs.

    Attributes:
      p: the pipeline.
      first: the day of its first version.
    """

    p: Pipeline
    first: date

    def live_after(self, last: date) -> Version:
        """Runs the days up to one, as far as they have no version yet; what is live then."""
        done = {version_date(version) for version in DayRun(self.p, last).state.last}
        for n in range((last - self.first).days + 1):
            day = self.first + timedelta(days=n)
            if day not in done:
                self._run(day)
        version = parent_of(DayRun(self.p, last).state, last + timedelta(days=1))
        return Version.open(self.p, version)

    def cpu(self, day: date) -> float:
        """CPU seconds that all stages of a day took."""
        return float(self._cpu(day).read_text())

    def _cpu(self, day: date) -> Path:
        return Path(str(self.p.pipeline.work_root)).parent / f"cpu-{day}"

    def _run(self, day: date) -> None:
        """All stages of a day; a version that the gate refuses does not go live."""
        begin = cpu_seconds()
        with run_leases.own_run(self.p, day) as lease:
            run = DayRun(self.p, day, lease)
            for stage in STAGES:
                try:
                    runner.run_stage(run, stage)
                except GateRefused as refused:
                    print(f"{self.p.name} {day}: {refused}", flush=True)
        self._cpu(day).write_text(f"{cpu_seconds() - begin:.1f}")


def chain_of(split: Split, settings: Mapping[str, Any], seed: int, work: Path) -> Chain:
    """The chain that serves a split's days; `settings` are put over the pipeline file's."""
    p = override(pipeline.load(split.file), {**split.settings, **settings, "train.seed": seed})
    p = override(p, SETTINGS)
    # Defaults aside: a key that is new in a release makes no other chain.
    other = {"pipeline", "registry", "source"}
    told = p.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=other)
    # Test and earlier days may have logs of their own, which end on the same day.
    log = os.path.relpath(p.source.events, work)
    digest = stages.digest({"of": told, "first": str(split.first), "log": log})[:12]
    home = work / "chains" / f"{slug(split.name)}-{digest}"
    places = {"pipeline.work_root": str(home / "stages"), "registry.root": str(home / "registry")}
    return Chain(p=override(p, places), first=split.first)


def fit(
    name: str, prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path
) -> Fitted:
    """Runs the chain up to the split's last day, and asks what is live then.

    Args:
      name: of `SOURCES`.
      prepared: one day's cases.
      settings: of the pipeline file; none in the table.
      seed: `train.seed`.
      work: holds the chains.
    """
    split = replace(prepared.split, first=first_day(name, prepared.split))
    chain = chain_of(split, settings, seed, work)
    version = chain.live_after(prepared.split.last)
    source = carried(SOURCES[name], version)
    corpus = prepared.corpus()["_item"]
    ranked: dict[str, np.ndarray] = {}
    unseen: dict[str, np.ndarray] = {}
    for case in prepared.split.cases:
        asked = list(requests(prepared, case))
        now = datetime.combine(case.day or prepared.split.last, time(12), chain.p.zone)
        for lists, exclude_seen in ((ranked, False), (unseen, True)):
            found = ask(version, asked, now, source, exclude_seen=exclude_seen)
            lists[case.name] = positions(version, found, corpus)
    return Fitted(ranked, chain.cpu(prepared.split.last), unseen=unseen)


def first_day(name: str, split: Split) -> date:
    """The day of the first version of a contender's chain."""
    others = {
        "twinspire/first-version": split.last,
        "twinspire/after-28-days": split.first - timedelta(days=LATER),
    }
    return others.get(name, split.first)


def carried(source: str | None, version: Version) -> str | None:
    """What a version is asked for: a source that it does not carry is what it serves, with a word."""
    if source is None or source in version.sources:
        return source
    print(f"{version.id} carries no {source}: asked for what it serves", flush=True)
    return None


def ask(
    version: Version,
    asked: list[dict[str, Any]],
    now: datetime,
    source: str | None,
    *,
    exclude_seen: bool,
) -> np.ndarray:
    """[Q, 100] rows of the version's items, -1 behind the end."""
    parts = []
    for start in range(0, len(asked), _BATCH):
        answer = recommend(
            version,
            asked[start : start + _BATCH],
            ListRequest(k=LENGTH, exclude_seen=exclude_seen, source=source),
            now=now,
        )
        parts.append(answer.rows)
    return np.concatenate(parts)


def positions(version: Version, rows: np.ndarray, corpus: pl.Series) -> np.ndarray:
    """A version's rows as positions in the benchmark's catalogue; items outside it find nothing."""
    place = pl.DataFrame({"id": corpus}).with_row_index("place")
    ids = pl.DataFrame({"id": pl.Series(version.items["_item"]).cast(pl.String)})
    found = ids.join(place, on="id", how="left", maintain_order="left")["place"]
    table = found.cast(pl.Int64).fill_null(-1).to_numpy()
    return np.where(rows >= 0, table[np.maximum(rows, 0)], -1)


def requests(prepared: Prepared, case: Case) -> Iterator[dict[str, Any]]:
    """A request per query: the user alone, or what the moment knows besides."""
    queries = prepared.queries(case)
    if case.frozen:
        yield from ({"user": user} for user in queries["_user"])
        return
    known = _context(prepared, case, queries)
    for row in known.iter_rows(named=True):
        yield {key: value for key, value in row.items() if value is not None}


def _context(prepared: Prepared, case: Case, queries: pl.DataFrame) -> pl.DataFrame:
    """Columns of requests: user, history, and the features of the event that is to be guessed."""
    p = prepared.pipeline
    moment = pl.col("_moment").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(str(p.zone))
    columns = [pl.col("_user").alias("user"), pl.col("_before").alias("history")]
    parts = {"hour": moment.dt.hour(), "weekday": moment.dt.weekday() - 1}
    for name, feature in p.of_kind(TimeFeature).items():
        by_column = feature.parts_by_column(name).items()
        columns += [parts[part].cast(pl.Int64).alias(column) for column, part in by_column]
    return queries.select(*columns, *case.context)
