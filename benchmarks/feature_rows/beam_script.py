"""The training rows of `benchmarks.features` in the usual way of Beam and TensorFlow Transform: an
event is an element, users are brought together by `GroupByKey`, items are looked up in side inputs,
and a `preprocessing_fn` has TFT count and scale.

    python -m benchmarks.feature_rows.beam_script LOGS OUT
"""

import bisect
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.feature_rows import rules

Event: TypeAlias = dict[str, Any]
Item: TypeAlias = tuple[str, float]
"""Kind and price."""
_RAW = tft.DatasetMetadata.from_feature_spec(
    {
        **{name: tf.io.FixedLenFeature([], tf.string) for name in ("_user", "_item", "device")},
        **{name: tf.io.FixedLenFeature([], tf.string) for name in ("user", "item", "kind")},
        **{name: tf.io.FixedLenFeature([], tf.float32) for name in ("price", "sold")},
        **{name: tf.io.FixedLenFeature([], tf.int64) for name in ("_time", "hour", "weekday")},
        "recent": tf.io.VarLenFeature(tf.string),
    }
)


def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Raw columns to those of `rules.SCHEMA`."""
    items = tft.vocabulary(
        inputs["item"], frequency_threshold=rules.MIN_EVENTS, vocab_filename="item"
    )
    rows = {name: inputs[name] for name in ("_time", "_user", "_item")}
    for name, least in (("user", rules.MIN_EVENTS), ("device", None), ("kind", None)):
        rows[name] = 1 + tft.compute_and_apply_vocabulary(
            inputs[name], frequency_threshold=least, num_oov_buckets=1, vocab_filename=name
        )
    rows["item"] = 1 + tft.apply_vocabulary(inputs["item"], items, num_oov_buckets=1)
    recent = tft.apply_vocabulary(inputs["recent"], items, num_oov_buckets=1)
    rows["recent"] = tf.SparseTensor(recent.indices, 1 + recent.values, recent.dense_shape)
    for name in ("price", "sold"):
        logs = tf.math.log1p(tf.cast(inputs[name], tf.float64))
        rows[name] = tf.cast(tft.scale_to_z_score(logs), tf.float32)
    rows["now_hour"] = inputs["hour"] + 1
    rows["now_weekday"] = inputs["weekday"] + 1
    return rows


class WithHistories(beam.DoFn):
    """(user, events) -> their events of both days, those of the day with what came before each."""

    def process(self, element: tuple[str, Iterable[Event]]) -> Iterator[Event]:
        """Works on a user."""
        user, found = element
        events = []
        for today in (False, True):
            mine = [event for event in found if event["today"] == today]
            events += sorted(mine, key=lambda event: event["place"])[: rules.MAX_USER_EVENTS]
        distinct = {(event["time"], event["item"]): event for event in reversed(events)}
        ordered = [distinct[key] for key in sorted(distinct)]
        times = [event["time"] for event in ordered]
        for event in ordered:
            end = bisect.bisect_left(times, event["time"])
            before = ordered[max(0, end - rules.HISTORY) : end] if event["today"] else []
            yield {**event, "user": user, "recent": [one["item"] for one in before]}


def as_row(event: Event, items: Mapping[str, Item], sold: Mapping[str, int]) -> Event:
    """An event with the raw columns of its user, its moment and its item."""
    time: datetime = event["time"]
    kind, price = items[event["item"]]
    return {
        "_time": round(time.timestamp() * 1_000_000),
        "_user": event["user"],
        "_item": event["item"],
        "user": event["user"],
        "recent": event["recent"],
        "hour": time.hour,
        "weekday": rules.DAY.weekday(),
        "device": event["device"],
        "item": event["item"],
        "kind": kind,
        "price": price,
        # Of an event of the day before, nothing was counted yet.
        "sold": float(sold.get(event["item"], 0)) if event["today"] else 0.0,
    }


def write_rows(folder: Path, out: Path) -> None:
    """Writes the rows, in no order."""
    out.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
        tft_beam.Context(temp_dir=scratch),
    ):
        events = [_read(pipeline, folder, day == rules.DAY) for day in (rules.BEFORE, rules.DAY)]
        of_users = (
            events
            | "Both days" >> beam.Flatten()
            | "By user" >> beam.GroupByKey()
            | "Histories" >> beam.ParDo(WithHistories())
        )
        sold = (
            of_users
            | "Before" >> beam.Filter(lambda event: not event["today"])
            | "Item" >> beam.Map(lambda event: event["item"])
            | "Sold" >> beam.combiners.Count.PerElement()
        )
        items = (
            pipeline
            | "Items" >> beam.io.ReadFromParquet(rules.items_file(folder))
            | "By item" >> beam.Map(lambda item: (item["item"], (item["kind"], item["price"])))
        )
        last_draw = beam.pvalue.AsSingleton(_last_draw(of_users))
        side_inputs = (beam.pvalue.AsDict(items), beam.pvalue.AsDict(sold))
        tagged = of_users | "Rows" >> beam.Map(
            lambda event, *known: (event["today"], as_row(event, *known)), *side_inputs
        )
        analysed = tagged | "All" >> beam.Values()
        trained_on = (
            tagged
            | "Today" >> beam.Filter(lambda row: row[0])
            | "Day's" >> beam.Values()
            | "Not held out"
            >> beam.Filter(lambda row, last: rules.draw(row["_user"]) > int(last), last_draw)
        )
        transform = (analysed, _RAW) | "Analyse" >> tft_beam.AnalyzeDataset(preprocessing_fn)
        rows, _ = ((trained_on, _RAW), transform) | "Transform" >> tft_beam.TransformDataset()
        _ = rows | "Write" >> beam.io.WriteToParquet(
            str(out / "rows"), rules.SCHEMA, codec="zstd", file_name_suffix=".parquet"
        )


def _read(pipeline: beam.Pipeline, folder: Path, today: bool) -> Any:
    """A day's events by user."""
    file = rules.events_file(folder, rules.DAY if today else rules.BEFORE)
    name = "day" if today else "day before"

    def by_user(place: int, event: Event) -> tuple[str, Event]:
        user = event.pop("user")
        return user, {**event, "today": today, "place": place}

    # The place in the log, which tells the first events of a user: one file, read in order.
    return (
        pipeline
        | f"Read {name}" >> beam.io.ReadFromParquet(file)
        | f"Number {name}" >> beam.ParDo(_Numbered())
        | f"By user {name}" >> beam.MapTuple(by_user)
    )


class _Numbered(beam.DoFn):
    """Elements with their places in what one worker reads."""

    def setup(self) -> None:
        self._place = 0

    def process(self, element: Event) -> Iterator[tuple[int, Event]]:
        self._place += 1
        yield self._place, element


def _last_draw(of_users: Any) -> Any:
    """The largest draw that is held out."""
    most = int(rules.HOLDOUT * 2**64)
    return (
        of_users
        | "Of the day" >> beam.Filter(lambda event: event["today"])
        | "User" >> beam.Map(lambda event: event["user"])
        | "Users" >> beam.Distinct()
        | "May be held out" >> beam.Filter(lambda user: rules.draw(user) < most)
        | "Smallest" >> beam.combiners.Top.Smallest(rules.MOST_HELD_OUT, key=rules.draw)
        # Beam's integers have a sign, which draws of the upper half have no room in.
        | "Last" >> beam.Map(lambda users: str(rules.draw(users[-1]) if users else -1))
    )


def main() -> None:
    """Writes the rows of a folder of logs."""
    write_rows(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
