"""A split as files for all contenders.

    corpus.parquet          `_item`: the catalogue as of the end of training
    log.parquet             `_user`, `_item`, `_time` of the events of the last 280 days before the
                            end of training, for training
    asked.parquet           the same for the test days, if queries are as of an event: a contender
                            may use the events strictly before a query's moment
    queries-CASE.parquet    `_query`, `_user`, `_moment` (microseconds), `_history` and
                            `_history_times` (the user's events before the moment, oldest first),
                            `_before` (the newest 500 of these), `_earlier` (the number of events),
                            and further columns of the event
    truth-CASE.parquet      `_query`, `_truth`

The two files of a case have the same order of rows. Inputs of two-towers are made when one is trained
(quality/tower_inputs.py).
"""

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.quality.command import write_whole
from benchmarks.quality.splits import LOOKBACK, MOST, Case, Split
from model.item_fingerprint import fingerprint
from twinspire.runs import stages
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import override

_BEFORE = 500
"""The most items of `_before`."""
_FORMAT = 3
"""Version of the files above. Raise it when their content changes."""
_SEEN_BY_ALL = {"source", "columns", "features", "window", "vocabulary", "corpus"}
"""Tables of the pipeline file that decide the input of all contenders. Other tables decide how ours are
trained, blended and judged; a change of those does not make peers' runs stale.
"""
_FOR_ALL = {"evaluation.holdout": 0.0}
"""Training uses all users: the queries are on other days, so no user needs to be held out."""


class Fitted(NamedTuple):
    """A contender's lists.

    Attributes:
      ranked: by case, [Q, 600] positions in the catalogue, -1 after the end.
      cpu: CPU seconds of training and of making the lists.
      unseen: by case, lists without seen items, if the contender makes such lists itself; else seen items
        are removed from `ranked`.
    """

    ranked: Mapping[str, np.ndarray]
    cpu: float
    unseen: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A split with its files.

    Attributes:
      pipeline: the pipeline file with the split's settings.
      folder: folder of the files above.
      features: folder of the feature stage's output, which exists once a two-tower needed it.
      digest: digest of the input of all contenders.
    """

    split: Split
    pipeline: Pipeline
    folder: Path
    features: Path
    digest: str

    def queries(self, case: Case) -> pl.DataFrame:
        """The case's queries."""
        return pl.read_parquet(self.folder / f"queries-{slug(case.name)}.parquet")

    def truth(self, case: Case) -> pl.DataFrame:
        """The true items of the queries."""
        return pl.read_parquet(self.folder / f"truth-{slug(case.name)}.parquet")

    def corpus(self) -> pl.DataFrame:
        """The catalogue."""
        return pl.read_parquet(self.folder / "corpus.parquet")

    def log(self) -> pl.DataFrame:
        """The events of the 280 days before the end of training, by time."""
        return pl.read_parquet(self.folder / "log.parquet")

    def asked(self) -> pl.DataFrame:
        """The events of the test days, by time; empty if no query is as of an event. A query knows only the
        events strictly before its moment.
        """
        return pl.read_parquet(self.folder / "asked.parquet")


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return name.replace("/", "-").replace(" ", "-")


def prepare(split: Split, folder: Path) -> Prepared:
    """Writes a split's files, unless they exist for the same inputs."""
    places = {
        "pipeline.work_root": str(folder / "stages"),
        "registry.root": str(folder / "registry"),
    }
    p = override(pipeline.load(split.file), {**split.settings, **_FOR_ALL, **places})
    inputs = {
        "day": str(split.last),
        # Without defaults, so that a new key of a release does not make splits stale.
        "pipeline": p.model_dump(
            mode="json", by_alias=True, exclude_defaults=True, include=_SEEN_BY_ALL
        ),
        "events": int(split.events.hash_rows(1).sum()),
        "wanted": {case.name: int(case.wanted.hash_rows(1).sum()) for case in split.cases},
        "most": split.most,
        "format": _FORMAT,
    }
    digest = stages.digest(inputs)
    done = folder / "DONE.json"
    prepared = folder / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    # Several benchmarks may run at once; only one of them writes a day.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or json.loads(done.read_text())["digest"] != digest:
            done.unlink(missing_ok=True)
            _write(split, p, prepared)
            write_whole(done, json.dumps({"digest": digest}))
    return Prepared(
        split=split, pipeline=p, folder=prepared, features=folder / "features", digest=digest
    )


def _write(split: Split, p: Pipeline, out: Path) -> None:
    events = split.events.filter(pl.col("_day") > split.last - timedelta(days=LOOKBACK))
    trained = pl.col("_day") <= split.last
    corpus = split.items
    if corpus is None:
        lately = pl.col("_day") > split.last - timedelta(days=p.corpus.recent_days)
        corpus = events.filter(trained & lately)["_item"].unique().sort()
    corpus.rename("_item").to_frame().write_parquet(out / "corpus.parquet")
    events.filter(trained).drop("_day").write_parquet(out / "log.parquet")
    later = events.filter(~trained & (split.asked is not None))
    later.drop("_day").write_parquet(out / "asked.parquet")
    for case in split.cases:
        day = case.day or split.last + timedelta(days=1)
        start = datetime.combine(day, time(), p.zone)
        if case.frozen:
            queries, truth = frozen_queries(case.wanted, split.most)
        else:
            queries, truth = event_queries(case.wanted, split.most)
        queries = with_before(with_history(queries, events.drop("_day"), start))
        queries.write_parquet(out / f"queries-{slug(case.name)}.parquet")
        truth.write_parquet(out / f"truth-{slug(case.name)}.parquet")


def with_history(queries: pl.DataFrame, events: pl.DataFrame, end: datetime) -> pl.DataFrame:
    """Adds `_moment`, `_history` and `_history_times`: all events of the user before the moment, oldest
    first.

    Args:
      queries: `_query`, `_user`, and `_time` if queries are as of an event.
      events: `_user`, `_item`, `_time`.
      end: the moment of queries without `_time`: the end of the last training day.
    """
    moment = (
        pl.col("_time") if "_time" in queries.columns else pl.lit(int(end.timestamp()) * 1_000_000)
    )
    asked = queries.with_columns(moment.cast(pl.Int64).alias("_moment"))
    pairs = asked.select("_query", "_user", "_moment").join(events, on="_user")
    pairs = pairs.filter(pl.col("_time") < pl.col("_moment")).sort("_query", "_time", "_item")
    lists = pairs.group_by("_query", maintain_order=True).agg(
        pl.col("_item").alias("_history"), pl.col("_time").alias("_history_times")
    )
    joined = asked.join(lists, on="_query", how="left", maintain_order="left")
    return joined.with_columns(pl.col("_history", "_history_times").fill_null([]))


def frozen_queries(wanted: pl.DataFrame, most: int = MOST) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One query per user with a positive.

    Args:
      wanted: `_user`, `_item`.
      most: most queries to keep.

    Returns: queries and their truth, in the same order, named by the user.
    """
    truth = wanted.sort("_user", "_item").group_by("_user", maintain_order=True)
    by_user = truth.agg(pl.col("_item").unique(maintain_order=True).alias("_truth"))
    rows = by_user.with_columns(pl.col("_user").alias("_query"))
    return _parted(_fewer(rows, ["_user"], most))


def event_queries(wanted: pl.DataFrame, most: int = MOST) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One query per user and time.

    Args:
      wanted: `_user`, `_item`, `_time`, and further columns of the event.
      most: most queries to keep.

    Returns: queries and their truth, in the same order, named by user and time.
    """
    moment = ["_user", "_time"]
    more = [name for name in wanted.columns if not name.startswith("_")]
    rows = (
        wanted.sort(*moment, "_item")
        .group_by(moment, maintain_order=True)
        .agg(
            pl.col("_item").unique(maintain_order=True).alias("_truth"),
            *(pl.col(name).first() for name in more),
        )
    )
    rows = _fewer(rows, moment, most)
    return _parted(rows.with_columns(pl.concat_str(moment, separator="|").alias("_query")))


def _fewer(rows: pl.DataFrame, key: Sequence[str], most: int) -> pl.DataFrame:
    names = rows.select(pl.concat_str(key, separator="|")).to_series().to_arrow()
    order = np.argsort(fingerprint(names), kind="stable")[:most]
    return rows[np.sort(order)]


def _parted(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows.drop("_truth"), rows.select("_query", "_truth")


def with_before(queries: pl.DataFrame) -> pl.DataFrame:
    """Adds `_before`, the newest 500 items of `_history`, and `_earlier`, the length of `_history`."""
    history = pl.col("_history")
    return queries.with_columns(
        history.list.tail(_BEFORE).alias("_before"),
        history.list.len().cast(pl.Int64).alias("_earlier"),
    )
