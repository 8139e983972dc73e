"""What does a quiet day cost whose counts training never saw, and is it told?

    python -m benchmarks.skew --json skew.json
    python -m benchmarks.skew --case groceries        how far counts and ages are on good days, of which none
    python -m benchmarks.skew --case globo            is to be told

A made-up shop of 400 items whose popularity wanders from day to day, so that how often an item was
sold yesterday says most of what is sold today; the towers know nothing else of items but a category.
The last of ten days has as many events as the others, or a tenth, or a fiftieth of them. A version
is trained on all ten, and measured on the day after, which is as busy as ever: recall@50 of its
two-tower, the recall of the popular items of the window beside it, what the features stage measured
of the count (beam_jobs/validation/skew.py), and whether the gate says so.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs.point_in_time import item_counts
from beam_jobs.validation import skew, statistics
from benchmarks.quality import data
from benchmarks.quality.command import machine, parse_setting, write_whole
from benchmarks.quality.prepare import override
from index_builder.gate.skew_rule import judge_skew
from twinspire.runs import stages
from twinspire_core.config import pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import FeaturesReport
from twinspire_core.contracts.stage_context import Parent, StageContext

FIRST = date(2024, 3, 1)
DAYS = 10
ITEMS, USERS, EVENTS, CATEGORIES = 400, 1_500, 8_000, 8
LEFT = (1.0, 0.1, 0.02)
"""Shares of its events that the last day keeps."""
METRIC = "recall@50"

PIPELINE = """
pipeline = { name = "made" }
source = { events = "events/dt={date}/", items = "items/dt={date}/" }
columns = { user = "user", item = "item", time = "at" }
window = { history_days = 10, count_days = 10, vocabulary_days = 10, train_days = 10 }
evaluation = { resamples = 0, max_users = 1500 }
mix = { sources = [] }
[features.item]
kind = "id"
tower = "item"
hash_buckets = 2
[features.recent]
kind = "history"
length = 5
[features.category]
kind = "category"
tower = "item"
[features.sold]
kind = "count"
days = 1
[train]
dimension = 32
batch_size = 512
epochs = 3
"""


def lay_out(folder: Path, left: float, seed: int) -> None:
    """Writes eleven days of events, of which the tenth keeps a part, and a snapshot of the items."""
    rng = np.random.default_rng(seed)
    category = rng.integers(0, CATEGORIES, ITEMS)
    taste = rng.integers(0, CATEGORIES, USERS)
    appeal = rng.normal(0, 1.5, ITEMS)
    ids = np.array([f"i{n:03d}" for n in range(ITEMS)])
    (folder / f"items/dt={FIRST}").mkdir(parents=True)
    items = pl.DataFrame({"item": ids, "category": category.astype(str)})
    items.write_parquet(folder / f"items/dt={FIRST}/items.parquet")
    for n in range(DAYS + 1):
        # Half of what makes an item sell is new each day: what was sold a week ago tells little.
        appeal = 0.7 * appeal + rng.normal(0, 1.5 * np.sqrt(1 - 0.7**2), ITEMS)
        user = rng.integers(0, USERS, EVENTS)
        likes = 1.5 * (category == taste[user][:, np.newaxis])
        item = np.argmax(appeal + likes + rng.gumbel(size=(EVENTS, ITEMS)), axis=1)
        kept = EVENTS if n != DAYS - 1 else round(EVENTS * left)
        day = FIRST + timedelta(days=n)
        start = datetime(day.year, day.month, day.day)
        at = [start + timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 86_400, kept))]
        events = pl.DataFrame(
            {"user": [f"u{one}" for one in user[:kept]], "item": ids[item[:kept]], "at": at}
        )
        (folder / f"events/dt={day}").mkdir(parents=True)
        events.write_parquet(folder / f"events/dt={day}/events.parquet")


def run(folder: Path, left: float, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Trains on the ten days, and measures on the one after."""
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(folder, left, seed)
    (folder / "made.toml").write_text(PIPELINE)
    p = override(pipeline.load(folder / "made.toml"), settings)
    last = FIRST + timedelta(days=DAYS - 1)
    context: dict[str, Any] = {"pipeline": p, "day": last, "mode": "full"}
    for day in (last, last + timedelta(days=1)):
        home = folder / str(day)
        for stage, inputs in (("features", {}), ("train", {"features": str(home / "features")})):
            made = StageContext(**{**context, "day": day}, out=str(home / stage), inputs=inputs)
            stages.STAGES[stage].load()(made)
        train = str(home / "train")
        parent = Parent(day=day, version="made", home=train, train=train)
        context |= {"mode": "incremental", "parent": parent}
    metrics = json.loads((home / "train" / "metrics.json").read_text())
    report = FeaturesReport.read(str(folder / str(last) / "features"))
    sold = next(one for one in report.skew or () if one.feature == "sold")
    return {
        "left": left,
        "seed": seed,
        METRIC: metrics["progressive"][METRIC],
        "most_popular": metrics["baselines"]["most_popular"][METRIC],
        "distance": sold.distance,
        "outside": sold.outside,
        "told": [text for _, text in judge_skew(report.skew or (), p.gate)],
    }


def good_days(case: str, folder: Path, every: int) -> list[dict[str, Any]]:
    """How far each count and age of a public log is from training, day by day.

    Only what the feature job counts is looked at: it is counted here by the job's own functions,
    for a year of days in minutes.
    """
    if case == "globo":
        places = {"events": data.globo(folder)}
        p = pipeline.load(ROOT / "pipelines" / "news.toml")
    else:
        places = data.groceries(folder)
        p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    folders = Path(places["events"]).parent
    item, time = p.columns.item, p.columns.time
    events = pl.scan_parquet(folders / "*/*.parquet").select(item, time).collect()
    at = pl.col(time)
    if events.schema[time].is_integer():
        at = pl.from_epoch(at, time_unit="ms").dt.replace_time_zone("UTC")
        at = at.dt.convert_time_zone(p.pipeline.time_zone).dt.replace_time_zone(None)
    events = events.select(
        _item=pl.col(item).cast(pl.String),
        _day=at.dt.date().cast(pl.Int32),
        _time=at.dt.epoch("us"),
    )
    counted = pl.DataFrame(item_counts.partial(p, events))
    start = date(1970, 1, 1)
    first, last = events["_day"].min(), events["_day"].max()
    rows_of: dict[int, pa.Table] = {}
    found = []
    for number in range(first, last + 1):
        on_day = events.filter(pl.col("_day") == number).select("_item")
        known = item_counts.as_of(p, counted, start + timedelta(days=number))
        rows_of[number] = item_counts.add(p, on_day, known).to_arrow()
        # The window has to be there, as for a first version.
        if number < first + p.window.train_days or (number - first) % every:
            continue
        collect = statistics.Collect(item_counts.computed(p))
        window = range(max(first, number + 1 - p.window.vocabulary_days), number + 1)
        parts = [collect.add_input({}, rows_of[n]) for n in window if len(rows_of[n])]
        stats = statistics.to_proto(p, collect.merge_accumulators(parts))
        served = item_counts.as_of(p, counted, start + timedelta(days=number + 1)).to_arrow()
        for one in skew.compare(p, stats, {feature_schema.CORPUS_END: served}):
            figures = one.model_dump(include={"feature", "distance", "outside"})
            told = [text for _, text in judge_skew([one], p.gate)]
            found.append({"day": str(start + timedelta(days=number)), **figures, "told": told})
    return found


def show_good_days(found: list[dict[str, Any]]) -> None:
    """The largest figures of each feature, and the days that are told."""
    for name in dict.fromkeys(one["feature"] for one in found):
        of_feature = [one for one in found if one["feature"] == name]
        far = max(of_feature, key=lambda one: one["distance"])
        median = float(np.median([one["distance"] for one in of_feature]))
        outside = max(one["outside"] for one in of_feature)
        told = [one["day"] for one in of_feature if one["told"]]
        print(
            f"{name}: {len(of_feature)} days, distance {median:.2f} in the middle, at most"
            f" {far['distance']:.2f} ({far['day']}), at most {outside:.0%} outside; told:"
            f" {', '.join(told) or 'none'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=("made", "groceries", "globo"), default="made")
    parser.add_argument("--every", type=int, default=1, help="of a log, every so manieth day")
    parser.add_argument("--seeds", type=int, default=1, help="how many made-up shops")
    parser.add_argument("--left", type=float, nargs="*", default=LEFT, help="shares that are kept")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the pipeline file"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "skew", help="where the shops are kept"
    )
    options = parser.parse_args()
    settings = dict(parse_setting(text) for text in options.set)
    found = []
    if options.case != "made":
        found = good_days(options.case, options.work / options.case, options.every)
        show_good_days(found)
        if options.json:
            write_whole(options.json, json.dumps({"machine": machine(), "days": found}, indent=1))
        return
    print(f"{'left':>5}{METRIC:>11}{'popular':>9}{'distance':>10}{'outside':>9}  told")
    for seed in range(options.seeds):
        for left in options.left:
            one = run(options.work / f"{left:g}-{seed}", left, seed, settings)
            figures = f"{one[METRIC]:11.3f}{one['most_popular']:9.3f}{one['distance']:10.2f}"
            print(
                f"{left:5g}{figures}{one['outside']:9.0%}  {one['told'] or 'nothing'}", flush=True
            )
            found.append(one)
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "runs": found}, indent=1))


if __name__ == "__main__":
    main()
