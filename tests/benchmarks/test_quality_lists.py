"""Lists of the quality benchmark that decay, against counts made one by one."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.quality import lists, logs, prepare
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case, Split
from twinspire_core.config import pipeline

ROOT = Path(__file__).resolve().parent.parent.parent
HOUR = 3_600_000_000
DAY = 24 * HOUR
LAST = date(1970, 4, 10)
END = 100 * DAY
NEXT_DAY = Case(name="toy/next-day", frozen=True, wanted=pl.DataFrame())
LAST_CLICK = Case(name="toy/last-click", frozen=False, wanted=pl.DataFrame())
EVENTS = {"_user": pl.String, "_item": pl.String, "_time": pl.Int64}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """40 items, 200 events before the end of training and 60 after, 30 queries as of an event."""
    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(1)

    def events(n: int, first: int, last: int) -> pl.DataFrame:
        rows = {
            "_user": rng.integers(0, 5, n).astype(str),
            "_item": rng.zipf(1.3, n) % 40,
            "_time": np.sort(rng.integers(first, last, n)),
        }
        return pl.DataFrame(rows).with_columns(pl.col("_item").cast(pl.String))

    before = events(200, END - 30 * DAY, END)
    after = events(60, END, END + DAY)
    pl.DataFrame({"_item": [str(n) for n in range(39)]}).write_parquet(folder / "corpus.parquet")
    before.write_parquet(folder / "log.parquet")
    after.write_parquet(folder / "asked.parquet")
    end = datetime.fromtimestamp(END // 1_000_000, UTC)
    users = pl.DataFrame({"_query": list("01234"), "_user": list("01234")})
    prepare.with_history(users, before, end).write_parquet(folder / "queries-toy-next-day.parquet")
    moments = after[::2].with_columns(pl.col("_time").cast(pl.String).alias("_query"))
    moments = moments.select("_query", "_user", "_time")
    asked = prepare.with_history(moments, pl.concat([before, after]), end)
    asked.write_parquet(folder / "queries-toy-last-click.parquet")
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    days = {"last": LAST, "first": LAST, "cases": (NEXT_DAY, LAST_CLICK)}
    split = Split(name="toy", file=folder, settings={}, **days)
    return Prepared(split=split, pipeline=p, folder=folder, features=folder, digest="1")


def counted(events: list[tuple[str, int]], moment: int, half_life: float) -> dict[str, float]:
    """Decayed counts by item, event by event."""
    counts: dict[str, float] = {}
    for item, at in events:
        if at < moment:
            age = (moment - at) / half_life if half_life else 0
            counts[item] = counts.get(item, 0) + 2.0**-age
    return counts


@pytest.mark.parametrize("case", [NEXT_DAY, LAST_CLICK], ids=["frozen", "as of an event"])
@pytest.mark.parametrize("half_life", [3, 168, 0])
def test_popular_items_are_those_of_the_query(ready: Prepared, case: Case, half_life: int) -> None:
    listed = lists.popular_decayed(ready, case, {"half_life": half_life})
    events = pl.concat([ready.log(), ready.asked()]).select("_item", "_time").rows()
    for ranked, moment in zip(listed, ready.queries(case)["_moment"], strict=True):
        counts = counted(events, moment, half_life * HOUR)
        wanted = [counts.get(str(place), 0.0) for place in range(39)]
        assert sorted(ranked[:39]) == list(range(39)) and (ranked[39:] == -1).all()
        values = [wanted[place] for place in ranked[:39]]
        assert np.diff(values).max() <= 1e-9, "the most popular stand first"


@pytest.mark.parametrize("case", [NEXT_DAY, LAST_CLICK], ids=["frozen", "as of an event"])
def test_a_users_own_items_are_counted_as_of_the_query(ready: Prepared, case: Case) -> None:
    settings = {"half_life": 7, "fill_half_life": 1}
    listed = lists.personal_decayed(ready, case, settings)
    every = pl.concat([ready.log(), ready.asked()])
    for ranked, query in zip(listed, ready.queries(case).iter_rows(named=True), strict=True):
        mine = every.filter(pl.col("_user") == query["_user"]).select("_item", "_time").rows()
        counts = counted(mine, query["_moment"], 7 * DAY)
        own = sorted((item for item in counts if item != "39"), key=lambda i: -counts[i])
        assert [str(place) for place in ranked[: len(own)]] == own
        assert sorted(ranked[:39]) == list(range(39)), "filled up with what is popular"


def test_what_happens_at_the_moment_itself_is_not_known() -> None:
    events = pl.DataFrame([("a", "x", 5), ("a", "y", 9), ("b", "z", 1)], EVENTS, orient="row")
    asked = pl.DataFrame({"_query": ["a|9", "b|1"], "_user": ["a", "b"], "_time": [9, 1]})
    extended = prepare.with_history(asked, events, datetime(2000, 1, 1, tzinfo=UTC))
    assert extended["_history"].to_list() == [["x"], []]
    assert extended["_history_times"].to_list() == [[5], []]
    assert extended["_moment"].to_list() == [9, 1]


def test_a_log_is_read_in_the_zone_of_its_pipeline_file(tmp_path: Path) -> None:
    p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    source = p.source.model_copy(update={"events": str(tmp_path / "dt={date}")})
    p = p.model_copy(update={"source": source})
    day = date(2017, 7, 2)
    (tmp_path / f"dt={day}").mkdir()
    rows = {"household_id": [7, 7, 8], "product_id": [1, 1, 2]}
    rows["transaction_timestamp"] = [datetime(2017, 7, 2, 12)] * 3
    pl.DataFrame(rows).write_parquet(tmp_path / f"dt={day}" / "part-0.parquet")
    events = logs.events_of(p, day - timedelta(days=1), day + timedelta(days=1))
    noon = int(datetime(2017, 7, 2, 16, tzinfo=UTC).timestamp()) * 1_000_000
    assert events.rows() == [("7", "1", noon), ("8", "2", noon)], "twice is once"
