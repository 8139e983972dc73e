"""Inputs of two-towers: features of the feature stage, also for the test days."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from beam_jobs.features_stage import write_raw
from benchmarks.quality.prepare import Prepared, override, slug
from benchmarks.quality.splits import Case
from twinspire.runs import runner
from twinspire.runs.day_run import DayRun
from twinspire_core.config.feature_kinds import TimeFeature
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.attempts import StageContext


def make(prepared: Prepared) -> None:
    """Runs the feature stage over the training window, unless that is done."""
    summary = runner.run_stage(
        DayRun(prepared.pipeline, prepared.split.last), "features", mode="full"
    )
    prepared.features.unlink(missing_ok=True)
    prepared.features.symlink_to(Path(summary["attempt"]).resolve())


def corpus(prepared: Prepared) -> pl.DataFrame:
    """Raw item features of the catalogue, in its order."""
    features = pl.read_parquet(prepared.features / feature_schema.CORPUS_END / "*.parquet")
    return prepared.corpus().join(features, on="_item", how="left", maintain_order="left")


def queries(prepared: Prepared, case: Case) -> pl.DataFrame:
    """The case's queries with raw query features, as of the start of its day or of just before each event.
    Users without a history have only the most frequent hour and weekday.
    """
    asked = prepared.queries(case).select("_query", "_user", pl.col("_moment").alias("_time"))
    columns = [column.name for column in feature_schema.query_columns(prepared.pipeline)]
    if case.frozen:
        features = _as_of_start(prepared, case)
        keys = ["_user"]
    else:
        features = _as_of_events(prepared, case)
        keys = ["_user", "_time"]
    joined = asked.join(
        features.select(*keys, *columns), on=keys, how="left", maintain_order="left"
    )
    times = [
        column
        for name, feature in prepared.pipeline.of_kind(TimeFeature).items()
        for column in feature.columns(name)
    ]
    lists = [name for name in columns if joined[name].dtype == pl.List(pl.String)]
    return joined.with_columns(
        *(pl.col(name).fill_null(pl.col(name).mode().first()) for name in times),
        *(pl.col(name).fill_null([]) for name in lists),
    )


def _as_of_start(prepared: Prepared, case: Case) -> pl.DataFrame:
    last = prepared.split.last
    before = (case.day or last + timedelta(days=1)) - timedelta(days=1)
    features = prepared.features
    if before != last:
        features = _raw(prepared, case, days=1, last_day=before)
    users = pl.read_parquet(features / feature_schema.USERS / "*.parquet")
    return users.unique("_user", keep="first")


def _as_of_events(prepared: Prepared, case: Case) -> pl.DataFrame:
    last = prepared.split.asked
    assert last is not None
    first = case.day or last
    features = _raw(prepared, case, days=(last - first).days + 1, last_day=last)
    files = sorted((features / feature_schema.EXAMPLES).glob("dt=*/*.parquet"))
    rows = pl.concat(pl.from_arrow(pq.read_table(file)) for file in files)  # type: ignore[misc]
    moment = pl.col("_time").cast(pl.Datetime("us")).cast(pl.Int64)
    return rows.with_columns(moment).unique(["_user", "_time"], keep="first", maintain_order=True)


def _raw(prepared: Prepared, case: Case, *, days: int, last_day: object) -> Path:
    """Features of test days, without a transform graph."""
    out = prepared.folder.parent / "asked" / f"{slug(case.name)}-{prepared.digest[:12]}"
    if not (out / "ready").exists():
        p = override(prepared.pipeline, {"window.train_days": days})
        mode = "full" if days > 1 else "incremental"
        ctx = StageContext(
            pipeline=p,
            day=last_day,
            mode=mode,
            out=str(out),
            inputs={},  # type: ignore[arg-type]
        )
        write_raw(ctx, lambda rows: None)
        (out / "ready").touch()
    return out
