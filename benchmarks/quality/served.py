"""The served lists: the real daily pipeline makes versions day after day, and they answer as in a server.

A chain begins `Log.chained` days before the first test day with a version that is trained from scratch; its
ranker learns from a replay of the days before. Each later version continues from the previous one, through
all stages and the gate. The version that is live in the morning answers the queries of a day.
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
"""The source of each contender's lists. `served` is a version's default: the ranker if the gate lets it
serve, else the fixed order. `ranked` is the ranker, whether it serves or not; a version without a ranker uses
its default. The last two use the default of other chains: on each day a first version, or a version of a
chain that is `LATER` days older.
"""
LATER = 28
ON_DEMAND = ("twinspire/first-version", "twinspire/after-28-days")
"""Contenders that run only if they are named, because their chains are costly."""
SETTINGS: Mapping[str, Any] = {"serving.user_store": True}
"""Overrides of the pipeline files: requests name users by id, and their stored data count."""
LENGTH = 100
_BATCH = 2_000


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Days that one pipeline runs.

    Attributes:
      first: the day of its first version.
    """

    p: Pipeline
    first: date

    def live_after(self, last: date) -> Version:
        """Runs the missing days up to one; returns the version that is live then."""
        done = {version_date(version) for version in DayRun(self.p, last).state.last}
        for n in range((last - self.first).days + 1):
            day = self.first + timedelta(days=n)
            if day not in done:
                self._run(day)
        version = parent_of(DayRun(self.p, last).state, last + timedelta(days=1))
        return Version.open(self.p, version)

    def cpu(self, day: date) -> float:
        """CPU seconds of all stages of a day."""
        return float(self._cpu(day).read_text())

    def _cpu(self, day: date) -> Path:
        return Path(str(self.p.pipeline.work_root)).parent / f"cpu-{day}"

    def _run(self, day: date) -> None:
        """Runs all stages of a day. A version that the gate refuses does not go live."""
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
    """The chain that serves a split's days. `settings` override the pipeline file."""
    p = override(pipeline.load(split.file), {**split.settings, **settings, "train.seed": seed})
    p = override(p, SETTINGS)
    # Without defaults, so that a new key of a release does not make chains stale.
    other = {"pipeline", "registry", "source"}
    pipeline_settings = p.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude=other
    )
    # Test and earlier days may have different logs that end on the same day.
    log = os.path.relpath(p.source.events, work)
    digest = stages.digest({"of": pipeline_settings, "first": str(split.first), "log": log})[:12]
    home = work / "chains" / f"{slug(split.name)}-{digest}"
    paths = {"pipeline.work_root": str(home / "stages"), "registry.root": str(home / "registry")}
    return Chain(p=override(p, paths), first=split.first)


def fit(
    name: str, prepared: Prepared, settings: Mapping[str, Any], seed: int, work: Path
) -> Fitted:
    """Runs the chain up to the split's last day, and makes lists with the version that is live then.

    Args:
      name: a key of `SOURCES`.
      prepared: one day's cases.
      settings: overrides of the pipeline file.
      seed: `train.seed`.
      work: folder of the chains.
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
            rows = ask(version, asked, now, source, exclude_seen=exclude_seen)
            lists[case.name] = positions(version, rows, corpus)
    return Fitted(ranked, chain.cpu(prepared.split.last), unseen=unseen)


def first_day(name: str, split: Split) -> date:
    """The day of the first version of a contender's chain."""
    others = {
        "twinspire/first-version": split.last,
        "twinspire/after-28-days": split.first - timedelta(days=LATER),
    }
    return others.get(name, split.first)


def carried(source: str | None, version: Version) -> str | None:
    """The source of a version's lists: its default, with a message, if it does not have this source."""
    if source is None or source in version.sources:
        return source
    print(f"{version.id} has no {source}: using its default", flush=True)
    return None


def ask(
    version: Version,
    asked: list[dict[str, Any]],
    now: datetime,
    source: str | None,
    *,
    exclude_seen: bool,
) -> np.ndarray:
    """[Q, 100] rows of the version's items, -1 after the end."""
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
    """A version's rows as positions in the benchmark's catalogue; -1 for items outside it."""
    catalogue = pl.DataFrame({"id": corpus}).with_row_index("place")
    ids = pl.DataFrame({"id": pl.Series(version.items["_item"]).cast(pl.String)})
    joined = ids.join(catalogue, on="id", how="left", maintain_order="left")["place"]
    table = joined.cast(pl.Int64).fill_null(-1).to_numpy()
    return np.where(rows >= 0, table[np.maximum(rows, 0)], -1)


def requests(prepared: Prepared, case: Case) -> Iterator[dict[str, Any]]:
    """A request per query: the user alone, or also the history and features of the event."""
    queries = prepared.queries(case)
    if case.frozen:
        yield from ({"user": user} for user in queries["_user"])
        return
    known = _context(prepared, case, queries)
    for row in known.iter_rows(named=True):
        yield {key: value for key, value in row.items() if value is not None}


def _context(prepared: Prepared, case: Case, queries: pl.DataFrame) -> pl.DataFrame:
    """Columns of requests: user, history, and the features of the event to predict."""
    p = prepared.pipeline
    moment = pl.col("_moment").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(str(p.zone))
    columns = [pl.col("_user").alias("user"), pl.col("_before").alias("history")]
    parts = {"hour": moment.dt.hour(), "weekday": moment.dt.weekday() - 1}
    for name, feature in p.of_kind(TimeFeature).items():
        by_column = feature.parts_by_column(name).items()
        columns += [parts[part].cast(pl.Int64).alias(column) for column, part in by_column]
    return queries.select(*columns, *case.context)
