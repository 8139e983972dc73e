"""Continue training from yesterday's model, or train from scratch every day? Quality and cost of both.

    python -m benchmarks.freshness --json freshness.json            7 days of Globo, 14 of groceries

`twinspire/warm` is trained on one day, from the model of the day before; `twinspire/scratch` is trained
every day on the pipeline file's whole window. Both start from the same model. Each day is measured before
training on it: its users with a history, as of its start. Seconds are those of the first three stages, and
of training alone. Finished days are kept under --work: the same command continues after a stop.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

from benchmarks.quality import data
from benchmarks.quality.command import machine, write_whole
from benchmarks.quality.prepare import override
from twinspire.runs import stages
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.attempts import Parent, StageContext

MODES = {"twinspire/warm": "incremental", "twinspire/scratch": "full"}
METRICS = ("recall@50", "recall@10", "ndcg@10")
BASELINE = "popular_lately"


@dataclass(frozen=True)
class Series:
    """Days of a data set.

    Attributes:
      name: name of the data set.
      first: the day of the model that both start from.
      days: number of later days that are measured and trained on.
      folder: folder of the working files.
    """

    name: str
    p: Pipeline
    first: date
    days: int
    folder: Path

    def day(self, n: int) -> date:
        """The n-th day; 0 is the first."""
        return self.first + timedelta(days=n)


def globo(work: Path) -> Series:
    """Clicks: 7 days to start from, then 7 more."""
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    settings = {"source.events": data.globo(work / "globo"), "pipeline.work_root": str(work)}
    first = date(2017, 10, 7)
    return Series("globo", override(p, settings), first, days=7, folder=work / "globo")


def groceries(work: Path) -> Series:
    """Purchases: 60 days to start from, then 14 more."""
    paths = data.groceries(work / "groceries")
    p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    settings = {f"source.{table}": path for table, path in paths.items()}
    settings["pipeline.work_root"] = str(work)
    first = date(2017, 9, 30)
    return Series("groceries", override(p, settings), first, days=14, folder=work / "groceries")


SERIES = {"globo": globo, "groceries": groceries}


def run_day(series: Series, name: str, n: int) -> dict[str, Any]:
    """Runs a day of one way of training, or reads its stored result. The measures are those of the previous
    day's model on this day.

    Returns: `measured` and `baseline` by metric (None on the first day), and `seconds` by step.
    """
    home = _home(series, name, n)
    if (home / "told.json").exists():
        return json.loads((home / "told.json").read_text())
    shutil.rmtree(home, ignore_errors=True)
    context: dict[str, Any] = {"pipeline": series.p, "day": series.day(n)}
    before = str(_home(series, name, n - 1) / "version")
    if n:
        context["mode"] = MODES[name]
        context["parent"] = Parent(
            day=series.day(n - 1), version=before, home=before, train=before, measure=before
        )
    else:
        context["mode"] = "full"
    seconds = {}
    # A version contains the outputs of both `train` and `measure`
    version = str(home / "version")
    outputs = {"features": str(home / "features"), "train": version, "measure": version}
    for stage, output in outputs.items():
        begin = time.monotonic()
        run = stages.STAGES[stage].load()
        summary = run(StageContext(**context, out=output, inputs=outputs))
        seconds[stage] = time.monotonic() - begin
        if stage == "train":
            seconds["training"] = summary["training_seconds"]
    metrics = json.loads((home / "version" / "metrics.json").read_text())
    result = {
        "measured": _short(metrics["progressive"]),
        "baseline": _short(metrics["baselines"][BASELINE]) if n else None,
        "seconds": seconds,
    }
    write_whole(home / "told.json", json.dumps(result, indent=1))
    shutil.rmtree(home / "features")
    if n > 1:  # the next day needs only the newest model
        shutil.rmtree(before)
    return result


def _short(measures: Mapping[str, float] | None) -> dict[str, float] | None:
    return measures and {name: measures[name] for name in METRICS}


def _home(series: Series, name: str, n: int) -> Path:
    """Folder of a day; another one for other settings of the pipeline file. Both ways share the first day."""
    settings = series.p.model_dump(
        mode="json", by_alias=True, exclude={"pipeline", "source", "registry"}
    )
    way = name.split("/")[1] if n else "start"
    return series.folder / stages.digest(settings)[:12] / way / str(series.day(n))


def measure(series: Series) -> dict[str, list[dict[str, Any]]]:
    """Runs all days, alternating between the two ways: the results of the days, by contender."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in MODES}
    for n in range(series.days + 1):
        for name in MODES:
            result = run_day(series, name, n)
            figure = "the start"
            if result["measured"]:
                figure = f"recall@50 {result['measured']['recall@50']:.4f}"
            if n:  # on the first day there is no earlier model to measure
                results[name].append(result)
            costs = ", ".join(f"{step} {s:.0f} s" for step, s in result["seconds"].items())
            print(f"{series.name} {series.day(n)} {name:18} {figure}; {costs}", flush=True)
    return results


def rows(series: Series, results: Mapping[str, list[dict[str, Any]]]) -> list[dict]:
    """A row per figure: the mean over the days, the range, and each day."""
    figures = {
        name: [{**day["measured"], **_costs(day["seconds"])} for day in days]
        for name, days in results.items()
    }
    figures[BASELINE] = [day["baseline"] for day in results["twinspire/warm"]]
    return [
        _row(series.name, name, metric, [day[metric] for day in days])
        for name, days in figures.items()
        for metric in days[0]
    ]


def _costs(seconds: Mapping[str, float]) -> dict[str, float]:
    return {
        "train_seconds": seconds["training"],
        "seconds": sum(seconds[stage] for stage in ("features", "train", "measure")),
    }


def _row(case: str, contender: str, metric: str, values: list[float]) -> dict:
    days = [float(f"{value:.5g}") for value in values]
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        "value": float(f"{sum(values) / len(values):.5g}"),
        "low": min(days),
        "high": max(days),
        "days": days,
        "unit": "s" if metric.endswith("seconds") else "",
    }


def table(figures: list[dict]) -> str:
    """The means and ranges as text."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in figures):
        lines += ["", f"{case:20} mean over the days, range"]
        of_case = [row for row in figures if row["case"] == case]
        for row in sorted(of_case, key=lambda row: row["metric"], reverse=True):
            what = f"  {row['metric']:14}{row['contender']:20}"
            lines.append(
                f"{what}{row['value']:9.4g}   {row['low']:.4g}-{row['high']:.4g} {row['unit']}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--case", action="append", choices=SERIES, help="only this data set")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "freshness", help="folder of the working files"
    )
    options = parser.parse_args()
    figures: list[dict] = []
    for case in options.case or SERIES:
        series = SERIES[case](options.work)
        figures += rows(series, measure(series))
        if options.json:
            write_whole(options.json, json.dumps({"machine": machine(), "rows": figures}, indent=1))
    print(table(figures))


if __name__ == "__main__":
    main()
