"""The benchmark of large days: both ways make the same rows, and what its table says of figures."""

import json

import numpy as np
import polars as pl
import pytest

from benchmarks import feature_script, features
from tests.twinspire.cli.test_prepare import twinspire

KEYS = ["_time", "_user", "_item"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A day of few events with what is rare in one: copies, users of one moment, a new item."""
    folder = tmp_path_factory.mktemp("world")
    features.make_logs(folder, 3000, 300, 150, seed=3)
    file = feature_script.events_file(folder, feature_script.DAY)
    log = pl.read_parquet(file)
    same_moment = log.head(40).with_columns(pl.col("item").shift(-1).fill_null(log["item"][0]))
    pl.concat([log, log.head(20), same_moment]).write_parquet(file)
    return folder


def rows_of(folder) -> pl.DataFrame:
    frames = [pl.read_parquet(file) for file in sorted(folder.rglob("*.parquet"))]
    columns = [pl.col(field.name) for field in feature_script.SCHEMA]
    return pl.concat([frame.select(columns) for frame in frames]).sort(*KEYS)


@pytest.fixture(scope="module")
def stage_rows(world):
    file = str(features.pipeline_file(world, 3))
    code, _, said = twinspire("features", file, "--date", feature_script.DAY)
    assert code == 0, said
    return rows_of(next((world / "work" / "shards-3").rglob("transformed")))


def assert_equal(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.height == expected.height
    for name in feature_script.SCHEMA.names:
        if name in ("price", "sold"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
        elif name == "recent":
            most = found[name].explode().max()
            assert found[name].to_list() == [[min(n, most) for n in ids] for ids in expected[name]]
        else:
            # The stage has several rows for what is rare.
            rows = expected[name]
            rows = rows.clip(upper_bound=found[name].max()) if rows.dtype.is_integer() else rows
            assert found[name].to_list() == rows.to_list(), name


def test_the_polars_script_makes_the_rows_of_the_stage(world, stage_rows, tmp_path):
    feature_script.write_rows(world, tmp_path / "out")
    assert_equal(rows_of(tmp_path / "out"), stage_rows)


def test_the_pages_table_is_of_the_committed_figures():
    report = json.loads(features.RESULTS.read_text())
    between = features.PAGE.read_text().split(features.BEGIN)[1].split(features.END)[0]
    assert between.strip() == features.table(report)
    assert {row["way"] for row in report["rows"]} == set(features.WAYS)
