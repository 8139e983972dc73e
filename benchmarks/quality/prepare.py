"""A split as files that every contender reads.

    corpus.parquet          `_item`: the catalogue as of the end of training
    log.parquet             `_user`, `_item`, `_time` of the events of the last 280 days up to the
                            end of training, which all contenders may be trained on
    asked.parquet           of the events of the days asked about, where queries are as of an event:
                            a contender may use those strictly before a query's moment
    queries-CASE.parquet    `_query`, `_user`, `_moment` (microseconds), `_history` and
                            `_history_times` (all that is known of the user then, oldest first),
                            `_before` (the newest 500 of these), `_earlier` (how many events that
                            were), and what else is known of the moment
    truth-CASE.parquet      `_query`, `_truth`

Rows of a case's two files stand in the same order. What two-towers read besides is made where one
is trained (quality/tower_inputs.py).
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
"""Of the files above; raised when what they hold changes."""
_SEEN_BY_ALL = {"source", "columns", "features", "window", "vocabulary", "corpus"}
"""Tables of the pipeline file that say what every contender is given. How ours are trained, mixed and
judged is no peer's business: a change of it lets what peers found stand.
"""
_FOR_ALL = {"evaluation.holdout": 0.0}
"""All users are trained on: the queries are of other days, so that none need be held out. What the
train stage itself measures is of no use here.
"""


class Fitted(NamedTuple):
    """What a contender came to.

    Attributes:
      ranked: by case, [Q, 600] positions in the catalogue, -1 behind the end.
      cpu: CPU seconds of training and of making the lists.
      unseen: by case, the same without what the query's user had before, where a contender makes such
        lists by itself; else that is taken out of `ranked`.
    """

    ranked: Mapping[str, np.ndarray]
    cpu: float
    unseen: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A split that is laid out.

    Attributes:
      split: what was laid out.
      pipeline: the pipeline file with the split's settings.
      folder: holds the files above.
      features: folder of the feature stage's output, once a two-tower has asked for it.
      digest: of all that every contender sees.
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
        """What the queries should find."""
        return pl.read_parquet(self.folder / f"truth-{slug(case.name)}.parquet")

    def corpus(self) -> pl.DataFrame:
        """The catalogue."""
        return pl.read_parquet(self.folder / "corpus.parquet")

    def log(self) -> pl.DataFrame:
        """The events of 280 days up to the end of training, in the order of time."""
        return pl.read_parquet(self.folder / "log.parquet")

    def asked(self) -> pl.DataFrame:
        """The events of the days asked about, in the order of time; none where no query is as of an
        event. Only those strictly before a query's moment are known to it.
        """
        return pl.read_parquet(self.folder / "asked.parquet")


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return name.replace("/", "-").replace(" ", "-")


def prepare(split: Split, folder: Path) -> Prepared:
    """Lays a split out; what is there for the same inputs stays."""
    places = {
        "pipeline.work_root": str(folder / "stages"),
        "registry.root": str(folder / "registry"),
    }
    p = override(pipeline.load(split.file), {**split.settings, **_FOR_ALL, **places})
    told = {
        "day": str(split.last),
        # Defaults aside: a key that is new in a release makes no other split.
        "pipeline": p.model_dump(
            mode="json", by_alias=True, exclude_defaults=True, include=_SEEN_BY_ALL
        ),
        "events": int(split.events.hash_rows(1).sum()),
        "wanted": {case.name: int(case.wanted.hash_rows(1).sum()) for case in split.cases},
        "most": split.most,
        "format": _FORMAT,
    }
    digest = stages.digest(told)
    done = folder / "DONE.json"
    prepared = folder / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    # Several benchmarks may run at once; one of them lays a day out.
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
        lately = pl.col("_day") > split.last - timedelta(days=p.corpus.days)
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
    """Adds `_moment`, `_history` and `_history_times`: all events of the user before the moment,
    oldest first.

    Args:
      queries: `_query`, `_user`, and `_time` where it is as of a moment.
      events: `_user`, `_item`, `_time`.
      end: the moment of the others: when the last day trained on ended.
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
    found = asked.join(lists, on="_query", how="left", maintain_order="left")
    return found.with_columns(pl.col("_history", "_history_times").fill_null([]))


def frozen_queries(wanted: pl.DataFrame, most: int = MOST) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One query per user who takes something.

    Args:
      wanted: `_user`, `_item`.
      most: queries that are kept.

    Returns: queries and their truth, row by row the same; named by the user.
    """
    truth = wanted.sort("_user", "_item").group_by("_user", maintain_order=True)
    taken = truth.agg(pl.col("_item").unique(maintain_order=True).alias("_truth"))
    both = taken.with_columns(pl.col("_user").alias("_query"))
    return _parted(_fewer(both, ["_user"], most))


def event_queries(wanted: pl.DataFrame, most: int = MOST) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One query per moment of a user at which something is to be found.

    Args:
      wanted: `_user`, `_item`, `_time`, and what else is known of the moment.
      most: queries that are kept.

    Returns: queries and their truth, row by row the same; named by user and time.
    """
    moment = ["_user", "_time"]
    more = [name for name in wanted.columns if not name.startswith("_")]
    both = (
        wanted.sort(*moment, "_item")
        .group_by(moment, maintain_order=True)
        .agg(
            pl.col("_item").unique(maintain_order=True).alias("_truth"),
            *(pl.col(name).first() for name in more),
        )
    )
    both = _fewer(both, moment, most)
    return _parted(both.with_columns(pl.concat_str(moment, separator="|").alias("_query")))


def _fewer(rows: pl.DataFrame, key: Sequence[str], most: int) -> pl.DataFrame:
    names = rows.select(pl.concat_str(key, separator="|")).to_series().to_arrow()
    order = np.argsort(fingerprint(names), kind="stable")[:most]
    return rows[np.sort(order)]


def _parted(both: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return both.drop("_truth"), both.select("_query", "_truth")


def with_before(queries: pl.DataFrame) -> pl.DataFrame:
    """Adds `_before`, the newest 500 items of `_history`, and `_earlier`, how many that has."""
    history = pl.col("_history")
    return queries.with_columns(
        history.list.tail(_BEFORE).alias("_before"),
        history.list.len().cast(pl.Int64).alias("_earlier"),
    )
