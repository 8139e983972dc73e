"""The case `months` of `python -m benchmarks.freshness`: what is trained in which order, how far it
is, and what was found.
"""

import json
import multiprocessing
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.months import figures
from benchmarks.months.chains import Found, Months, way_of
from benchmarks.months.day_features import MEASURED_DAYS, DayFeatures
from benchmarks.quality import data
from benchmarks.quality.command import machine, write_whole
from benchmarks.quality.prepare import override
from twinspire.runs import cache_keys
from twinspire_core.config.pipeline import Pipeline

ROOT = Path(__file__).resolve().parent.parent.parent
FEATURES = ("household", "bought", "product")
"""Features of the pipeline file that take part: ids and the history."""
LEAN = {"train.dimension": 64}
COARSE = 3
"""Of the measured days, so manieth are trained anew before the other lines go on."""
TASKS_OF_A_PROCESS = 25
START = date(2017, 4, 30)
"""Sixty days of training, and sixty of history before each, are there."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of it.

    Attributes:
      days: of training on.
      every: so many days are measured.
      settings: of the pipeline file.
      sample: only every so manieth household.
    """

    days: int
    every: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 1


WHOLE = Scale(days=150, every=10)
QUICK = Scale(days=6, every=3, settings={"window.train_days": 7, "train.epochs": 1}, sample=4)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for.

    Attributes:
      work: where days are kept.
      scale: how much of it.
      settings: further keys of the pipeline file.
      slot_decays: of the lines, in their order.
      seeds: so many.
      threads: TensorFlow's, at most; None for as many as it likes.
      json: where to write the figures, if anywhere.
    """

    work: Path
    scale: Scale
    settings: Mapping[str, Any]
    slot_decays: Sequence[float]
    seeds: int
    threads: int | None
    json: Path | None


class Worker:
    """A process that trains, and now and then another one: what TensorFlow and Beam keep of each
    day adds up to gigabytes.
    """

    def __init__(self, threads: int | None) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=limit_threads,
            initargs=(threads,),
            max_tasks_per_child=TASKS_OF_A_PROCESS,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls it there, and waits."""
        self._pool.submit(function, *arguments).result()


def limit_threads(threads: int | None) -> None:
    """Limits TensorFlow's threads of an operation, and operations side by side."""
    if threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


class Ahead:
    """How long what is left will take, by what was done of its kind."""

    def __init__(self) -> None:
        self._expected = Counter[str]()
        self._done = Counter[str]()
        self._seconds = defaultdict[str, float](float)
        self._since = time.monotonic()

    def expect(self, kind: str, number: int) -> None:
        """Announces that many of a kind."""
        self._expected[kind] += number

    def begin(self) -> None:
        """From here on the clock runs for what is told next."""
        self._since = time.monotonic()

    def tell(self, kind: str, number: int) -> None:
        """So many were done since."""
        now = time.monotonic()
        self._done[kind] += number
        if number:
            self._seconds[kind] += now - self._since
        self._since = now

    def left(self) -> str:
        """What is left, in words."""
        parts = []
        for kind, words in (("on", "days to go on"), ("anew", "trainings anew")):
            number = self._expected[kind] - self._done[kind]
            if number > 0:
                each = self._seconds[kind] / self._done[kind] if self._done[kind] else None
                minutes = "" if each is None else f", some {number * each / 60:.0f} min"
                parts.append(f"{number} {words}{minutes}")
        return f"Left: {'; '.join(parts) or 'nothing'}."


def lean_pipeline(work: Path, scale: Scale, settings: Mapping[str, Any]) -> Pipeline:
    """`pipelines/groceries.toml` with ids and history alone, so that months take an hour."""
    places = data.groceries(work / "groceries", sample=scale.sample)
    file = ROOT / "pipelines" / "groceries.toml"
    tables = tomllib.loads(file.read_text())
    tables["features"] = {name: tables["features"][name] for name in FEATURES}
    tables["source"] = {"events": places["events"], "items": places["items"]}
    tables["sources"] = {"use": ["two_tower", "history"]}  # no pairs of items are counted
    for unused in ("corpus", "serving", "registry", "index"):
        del tables[unused]
    tables["pipeline"]["work_root"] = str(work)
    tables["registry"] = {"root": str(work)}
    return override(Pipeline.model_validate(tables), {**LEAN, **scale.settings, **settings})


def run(options: Options) -> None:
    """Trains and measures all that is not there yet, and writes the figures after each step."""
    scale = options.scale
    p = lean_pipeline(options.work, scale, options.settings)
    last = START + timedelta(days=scale.days)
    home = options.work / "months"
    features = DayFeatures(
        p=p, first=START, last=last, folder=home / _digest(p, {"train"}) / f"to {last}"
    )
    measured = [START + timedelta(days=n) for n in range(0, scale.days + 1, scale.every)]
    lines = [
        Months(features=features, measured=measured, folder=home / _digest(p, set()), seed=seed)
        for seed in range(options.seeds)
    ]
    with Worker(options.threads) as worker:
        worker.call(features.make_raw)
        ahead = Ahead()
        for what, step in _steps(lines, options.slot_decays, worker, ahead):
            step()
            made = collect(lines, options.slot_decays)
            if options.json:
                _write(options.json, made, p)
            print(f"{what}: done. {ahead.left()}", flush=True)
    ways = [way_of(x) for x in options.slot_decays]
    print("\n" + figures.table(made, ways))
    for way in ways:
        print(figures.verdict(made, way))


def _steps(
    lines: Sequence[Months], slot_decays: Sequence[float], worker: Worker, ahead: Ahead
) -> list[tuple[str, Callable[[], None]]]:
    """What is done in which order: a seed's first line, training anew on some days from the newest
    back, the other lines, and training anew on the days between.

    So a run that is stopped early leaves figures of the whole time.
    """
    steps: list[tuple[str, Callable[[], None]]] = []

    def go_on(months: Months, slot_decay: float) -> None:
        name = f"{way_of(slot_decay)}, seed {months.seed}"
        steps.append((name, _line(months, slot_decay, worker, ahead)))

    def train_anew(months: Months, days: Sequence[date]) -> None:
        for day in reversed(days):
            steps.append((f"anew {day}, seed {months.seed}", _anew(months, day, worker, ahead)))

    for months in lines:
        some = months.measured[::COARSE]
        go_on(months, slot_decays[0])
        train_anew(months, some)
        for slot_decay in slot_decays[1:]:
            go_on(months, slot_decay)
        train_anew(months, [day for day in months.measured if day not in some])
    return steps


def _line(months: Months, slot_decay: float, worker: Worker, ahead: Ahead) -> Callable[[], None]:
    way = way_of(slot_decay)
    ahead.expect("on", len(months.days_left(slot_decay)))

    def step() -> None:
        ahead.begin()
        for number, day in enumerate(months.days_left(slot_decay)):
            worker.call(months.go_on, slot_decay, day)
            ahead.tell("on", 1)
            if number % 10 == 9:
                print(f"{way}, seed {months.seed}: {day}. {ahead.left()}", flush=True)

    return step


def _anew(months: Months, day: date, worker: Worker, ahead: Ahead) -> Callable[[], None]:
    left = 0 if months.found(figures.ANEW, day).exists() else 1
    ahead.expect("anew", left)

    def step() -> None:
        ahead.begin()
        worker.call(months.train_anew, day)
        ahead.tell("anew", left)

    return step


def collect(lines: Sequence[Months], slot_decays: Sequence[float]) -> list[dict[str, Any]]:
    """The figures of all that was measured until now."""
    found: dict[str, dict[date, list[Found]]] = {}
    for way in [figures.ANEW, *map(way_of, slot_decays)]:
        found[way] = {}
        for months in lines:
            for day in months.measured:
                file = months.found(way, day)
                if file.exists():
                    found[way].setdefault(day, []).append(Found.load(file))
    return figures.rows(found, lines[0].measured[0])


def _write(file: Path, made: list[dict[str, Any]], p: Pipeline) -> None:
    whole = {
        "machine": machine(),
        "start": str(START),
        "measured_days": MEASURED_DAYS,
        "train": p.train.model_dump(mode="json"),
        "rows": made,
    }
    write_whole(file, json.dumps(whole, indent=1) + "\n")


def _digest(p: Pipeline, without: set[str]) -> str:
    tables = p.model_dump(
        mode="json", by_alias=True, exclude={"pipeline", "source", "registry", *without}
    )
    return cache_keys.digest(tables)[:12]
