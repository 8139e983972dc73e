"""How versions are asked for the quality benchmark."""

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from benchmarks.quality import days, served
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case, Split
from serving.requests.query_rows import Requests
from twinspire_core.config import pipeline

ROOT = Path(__file__).resolve().parent.parent.parent
NEXT_DAY = Case(name="globo/next-day 2017-10-13", frozen=True, wanted=pl.DataFrame())
CLICKS = pl.DataFrame({"_user": ["7"], "device": ["3"], "os": ["17"], "referrer": ["2"]})
LAST_CLICK = Case(name="globo/last-click 2017-10-13", frozen=False, wanted=CLICKS)


@pytest.fixture
def ready(tmp_path: Path) -> Prepared:
    moment = datetime(2017, 10, 14, 1, 30, tzinfo=UTC)  # Friday, half past ten in the evening there
    known = {"device": ["3"], "os": [None], "referrer": ["2"]}
    micros = [int(moment.timestamp() * 1_000_000)]
    asked = pl.DataFrame({"_user": ["7"], "_moment": micros, "_before": [["a", "b"]], **known})
    asked.write_parquet(tmp_path / "queries-globo-last-click-2017-10-13.parquet")
    asked.write_parquet(tmp_path / "queries-globo-next-day-2017-10-13.parquet")
    file = ROOT / "pipelines" / "news.toml"
    p, days = pipeline.load(file), {"last": date(2017, 10, 12), "first": date(2017, 10, 6)}
    split = Split(name="globo", file=file, settings={}, cases=(NEXT_DAY, LAST_CLICK), **days)
    return Prepared(split=split, pipeline=p, folder=tmp_path, features=tmp_path, digest="1")


def test_before_a_click_a_request_brings_what_was_known_then(ready: Prepared) -> None:
    (request,) = served.requests(ready, LAST_CLICK)
    context = {"request_hour": 22, "request_weekday": 4, "device": "3", "referrer": "2"}
    assert request == {"user": "7", "history": ["a", "b"]} | context
    # It is one that a server understands.
    assert Requests(ready.pipeline).table([request])["device"].to_pylist() == ["3"]


def test_at_the_start_of_a_day_a_user_is_asked_for_by_id_alone(ready: Prepared) -> None:
    assert list(served.requests(ready, NEXT_DAY)) == [{"user": "7"}]


def test_the_lists_of_a_version_are_read_by_its_id() -> None:
    version = SimpleNamespace(items=pa.table({"_item": ["x", "b", "a"]}))
    corpus = pl.Series("_item", ["a", "b", "c"])
    rows = np.array([[2, 1, 0], [1, -1, -1]])
    places = served.positions(version, rows, corpus)  # type: ignore[arg-type]
    assert places.tolist() == [[0, 1, -1], [1, -1, -1]]


def test_a_chain_begins_before_the_first_test_day_and_is_kept_by_its_settings(
    ready: Prepared, tmp_path: Path
) -> None:
    chain = served.chain_of(ready.split, {}, 0, tmp_path)
    assert chain.first < days.GLOBO.earlier[0] < days.GLOBO.development[0]
    assert chain.p.serving.user_store
    other = served.chain_of(ready.split, {}, 1, tmp_path)
    assert other.p.registry.root != chain.p.registry.root
    assert served.chain_of(ready.split, {}, 0, tmp_path).p == chain.p
    quick = served.chain_of(ready.split, {"train.batch_size": 256}, 0, tmp_path)
    assert quick.p.train.batch_size == 256 and quick.p.registry.root != chain.p.registry.root


def test_a_first_version_and_one_of_an_older_chain_answer_on_each_day(ready: Prepared) -> None:
    first, older, served_first = (
        served.first_day(f"twinspire/{name}", ready.split)
        for name in ("first-version", "after-28-days", "served")
    )
    assert (first, served_first) == (ready.split.last, ready.split.first)
    assert (served_first - older).days == 28
