"""A split as files that every contender reads, made by the feature stage.

    corpus.parquet          the catalogue as of the end of training: raw item features
    interactions.parquet    the events trained on: `_user`, `_item`, `_time`
    log.parquet             the same columns of all events of the last 280 days up to the end of training
    asked.parquet           of the events of the days asked about, where queries are as of an event: a contender may
                            use those strictly before a query's moment
    queries-CASE.parquet    `_query`, `_user`, `_before` (the user's items of the days trained on, oldest first),
                            `_moment` (microseconds), `_history` and `_history_times` (all that is known of the user
                            then, oldest first), raw query features
    truth-CASE.parquet      `_query`, `_truth`

Rows of a case's two files stand in the same order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.quality import log
from benchmarks.quality.splits import Case, Split
from model.item_fingerprint import fingerprint
from twinspire.runs import cache_keys, runner
from twinspire.runs.day_run import DayRun
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, feature_schema

MOST_QUERIES = 20_000
"""Beyond so many, those whose hash comes first."""
_BEFORE = 500
"""The most items of `_before`."""
_FORMAT = 2
"""Of the files above; raised when what they hold changes."""
_FOR_ALL = {"evaluation.holdout": 0.0, "evaluation.max_users": 100, "evaluation.resamples": 0}
"""All users are trained on: the queries are of other days, so that none need be held out. What the
train stage itself measures is of no use here.
"""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A split that is laid out.

    Attributes:
      split: what was laid out.
      pipeline: the pipeline file with the split's settings.
      folder: holds the files above.
      features: folder of the feature stage's output.
      digest: of all that contenders see.
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

    def interactions(self) -> pl.DataFrame:
        """The events trained on, in the order of time."""
        return pl.read_parquet(self.folder / "interactions.parquet")

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
    return name.replace("/", "-")


def override(p: Pipeline, settings: Mapping[str, Any]) -> Pipeline:
    """The pipeline with other values by key, as `train.temperature`.

    Raises:
      ValueError: a key or a value is none of the pipeline file's.
    """
    tables = p.model_dump(by_alias=True)
    for key, value in settings.items():
        *path, last = key.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[last] = value
    return Pipeline.model_validate(tables)


def prepare(split: Split, folder: Path) -> Prepared:
    """Lays a split out; what is there for the same inputs stays."""
    places = {
        "pipeline.work_root": str(folder / "stages"),
        "registry.root": str(folder / "registry"),
    }
    p = override(pipeline.load(split.file), {**split.settings, **_FOR_ALL, **places})
    trained, outputs = _features(p, split.last)
    asked, more = _asked(p, split)
    wanted = {case.name: case.wanted.hash_rows(1).sum() for case in split.cases}
    digest = cache_keys.digest(
        {"features": outputs, "asked": more, "wanted": wanted, "format": _FORMAT}
    )
    done = folder / "DONE.json"
    prepared = folder / "prepared"
    if not done.exists() or json.loads(done.read_text())["digest"] != digest:
        done.unlink(missing_ok=True)
        prepared.mkdir(exist_ok=True)
        _write(split, p, trained, asked, prepared)
        done.write_text(json.dumps({"digest": digest}))
    return Prepared(split=split, pipeline=p, folder=prepared, features=trained, digest=digest)


def _features(p: Pipeline, day: date) -> tuple[Path, str]:
    """Runs the feature stage over the training window; its folder, and a digest of what it
    wrote.
    """
    told = runner.run_stage(DayRun(p, day), "features", mode="full")
    return Path(told["attempt"]), attempts.read(told["attempt"]).output


def _asked(p: Pipeline, split: Split) -> tuple[Path | None, str | None]:
    """Examples of the days whose events are queries."""
    cases = [case for case in split.cases if not case.frozen]
    if not cases or split.asked is None:
        return None, None
    first = min(case.days[0] for case in cases)
    # The zone's day may be the one before that of UTC.
    return _features(
        override(p, {"window.train_days": (split.asked - first).days + 2}), split.asked
    )


def _write(split: Split, p: Pipeline, trained: Path, asked: Path | None, out: Path) -> None:
    pl.read_parquet(trained / feature_schema.CORPUS_END / "*.parquet").write_parquet(
        out / "corpus.parquet"
    )
    events = _events(trained)
    events.write_parquet(out / "interactions.parquet")
    known = log.events(p, split.last - timedelta(days=log.DAYS - 1), split.last)
    if not events.join(known, on=events.columns, how="anti").is_empty():
        raise ValueError("Every event trained on is one of the log: read it as the stage does.")
    known.write_parquet(out / "log.parquet")
    later = log.events(p, split.last + timedelta(days=1), split.asked or split.last)
    later.write_parquet(out / "asked.parquet")
    end = datetime.combine(split.last + timedelta(days=1), time(), p.zone)
    for case in split.cases:
        if case.frozen:
            queries, truth = frozen_queries(
                case.wanted, pl.read_parquet(trained / feature_schema.USERS / "*.parquet")
            )
            queries = log.with_history(queries, known, end)
            queries = with_before(queries, events)
        else:
            assert asked is not None
            queries, truth = event_queries(case.wanted, _rows(asked))
            queries = log.with_history(queries, pl.concat([known, later]), end)
            queries = with_before(queries, pl.concat([events, _events(asked)]).unique())
        kept = queries["_before"].list.len() > 0
        queries = queries.filter(kept)
        truth = truth.filter(kept)
        columns = [column.name for column in feature_schema.query_columns(p)]
        of_query = ["_query", "_user", "_before", "_moment", "_history", "_history_times"]
        queries.select(*of_query, *columns).write_parquet(
            out / f"queries-{slug(case.name)}.parquet"
        )
        truth.write_parquet(out / f"truth-{slug(case.name)}.parquet")


def _rows(features: Path) -> pl.DataFrame:
    """Examples of all days of a feature stage's output."""
    files = sorted((features / feature_schema.EXAMPLES).glob("dt=*/*.parquet"))
    return pl.concat(pl.from_arrow(pq.read_table(file)) for file in files)  # type: ignore[misc]


def _events(features: Path) -> pl.DataFrame:
    rows = _rows(features).select("_user", "_item", _microseconds())
    return rows.sort("_time", "_user", "_item")


def frozen_queries(wanted: pl.DataFrame, users: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One query per user who has a past and something to be found.

    Args:
      wanted: `_user`, `_item`.
      users: as the feature stage knows them at the end of training.

    Returns: queries and their truth, row by row the same; named by the user.
    """
    truth = wanted.sort("_user", "_item").group_by("_user", maintain_order=True)
    taken = truth.agg(pl.col("_item").unique(maintain_order=True).alias("_truth"))
    known = users.filter(pl.col("_past_events") > 0).drop("_past", "_past_events", "_last_time")
    both = known.join(taken, on="_user").sort("_user").with_columns(pl.col("_user").alias("_query"))
    return _parted(_fewer(both, ["_user"]))


def event_queries(
    wanted: pl.DataFrame, examples: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One query per moment of a user at which something is to be found.

    Args:
      wanted: `_user`, `_item`, `_time`.
      examples: rows of `examples/`, which hold the features as of just before each event.

    Returns: queries and their truth, row by row the same; named by user and time.
    """
    moment = ["_user", "_time"]
    truth = (
        wanted.sort("_item")
        .group_by(moment)
        .agg(pl.col("_item").unique(maintain_order=True).alias("_truth"))
    )
    rows = examples.drop("_item", "_reward", "_holdout").with_columns(_microseconds())
    both = _fewer(rows.unique(moment, keep="first").join(truth, on=moment).sort(moment), moment)
    return _parted(both.with_columns(pl.concat_str(moment, separator="|").alias("_query")))


def _microseconds() -> pl.Expr:
    return pl.col("_time").cast(pl.Datetime("us")).cast(pl.Int64)


def _fewer(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    names = rows.select(pl.concat_str(key, separator="|")).to_series().to_arrow()
    order = np.argsort(fingerprint(names), kind="stable")[:MOST_QUERIES]
    return rows[np.sort(order)]


def _parted(both: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return both.drop("_truth"), both.select("_query", "_truth")


def with_before(queries: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Adds `_before`: the items that the user had before the query, oldest first, the newest 500.

    Args:
      queries: `_query`, `_user`, and `_time` where it is as of a moment: events at that moment or
        later do not count.
      events: `_user`, `_item`, `_time`.
    """
    asked = queries.select("_query", "_user", *(["_time"] if "_time" in queries.columns else []))
    pairs = asked.join(events, on="_user", suffix="_of")
    if "_time" in asked.columns:
        pairs = (
            pairs.filter(pl.col("_time_of") < pl.col("_time"))
            .drop("_time")
            .rename({"_time_of": "_time"})
        )
    lists = pairs.sort("_query", "_time", "_item").group_by("_query", maintain_order=True)
    before = lists.agg(pl.col("_item").tail(_BEFORE).alias("_before"))
    found = queries.join(before, on="_query", how="left", maintain_order="left").drop(
        "_time", strict=False
    )
    return found.with_columns(pl.col("_before").fill_null([]))
