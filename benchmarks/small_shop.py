"""What is served by a shop of few users, day by day?

    python -m benchmarks.small_shop --json small_shop.json             groceries of a quarter of the households
    python -m benchmarks.small_shop --case globo --days 5              clicks of one user in 200
    python -m benchmarks.small_shop --sample 40                        about 7 buyers a day

The first version is trained on the pipeline file's training window, each later one on its own day.
A day's figures are recall@50 of what was served on it: of the version of the day before, its fused
lists where it has weights, else the two-tower's. Beside it stand the two-tower and what the users
had before, each alone. Days that are done are kept under --work: the same command goes on after a
stop.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

from benchmarks.quality import data
from benchmarks.quality.command import machine, parse_setting, write_whole
from benchmarks.quality.prepare import override
from twinspire.runs import stages
from twinspire_core.config import pipeline
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.stage_context import Parent, StageContext

METRIC = "recall@50"
SERVED = "served"
TWO_TOWER = "two_tower"
PAST = "past"


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A small shop.

    Attributes:
      p: its pipeline.
      first: the day of its first version.
      folder: where its days are kept.
    """

    p: Pipeline
    first: date
    folder: Path


def groceries(folder: Path, sample: int) -> Shop:
    """Purchases, trained on 60 days at first."""
    places = data.groceries(folder, sample=sample)
    p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    p = override(p, {f"source.{table}": place for table, place in places.items()})
    return Shop(p=p, first=date(2017, 9, 30), folder=folder)


def globo(folder: Path, sample: int) -> Shop:
    """Clicks, trained on 7 days at first."""
    place = data.globo(folder, sample=sample)
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    return Shop(p=override(p, {"source.events": place}), first=date(2017, 10, 7), folder=folder)


SHOPS = {"groceries": (groceries, 4), "globo": (globo, 200)}
"""How a shop is laid out, and the sample that makes it small: one user in so many."""


def run_day(shop: Shop, n: int) -> dict[str, Any]:
    """What was measured on the n-th day; 0 is that of the first version."""
    home = shop.folder / "days" / str(n)
    told = home / "told.json"
    if told.exists():
        return json.loads(told.read_text())
    shutil.rmtree(home, ignore_errors=True)
    day = shop.first + timedelta(days=n)
    context: dict[str, Any] = {"pipeline": shop.p, "day": day, "mode": "full"}
    if n:
        before = shop.folder / "days" / str(n - 1) / "train"
        context["mode"] = "incremental"
        context["parent"] = Parent(
            day=day - timedelta(days=1), version=str(n - 1), home=str(before), train=str(before)
        )
    for stage, inputs in (("features", {}), ("train", {"features": str(home / "features")})):
        run = stages.STAGES[stage].load()
        run(StageContext(**context, out=str(home / stage), inputs=inputs))
    result = _figures(json.loads((home / "train" / "metrics.json").read_text()), day)
    write_whole(told, json.dumps(result, indent=1))
    shutil.rmtree(home / "features")
    return result


def _figures(metrics: Mapping[str, Any], day: date) -> dict[str, Any]:
    """Recall of a day's lists, by what made them; none where nothing was measured."""
    progressive = metrics["progressive"]
    result: dict[str, Any] = {"day": str(day), "fitted": metrics["mix"]["fitted"]}
    if progressive:
        fused = metrics["mix"]["progressive"]
        result["users"] = progressive["users"]
        result[SERVED] = (fused or progressive)[METRIC]
        result[TWO_TOWER] = progressive[METRIC]
        result[PAST] = metrics["baselines"]["past"][METRIC]
    return result


def table(days: list[Mapping[str, Any]]) -> str:
    """The days as text, the one of the first version without figures of its own lists."""
    lines = [f"{'day':12}{'users':>6}{SERVED:>9}{TWO_TOWER:>11}{PAST:>7}  weights of its version"]
    for day in days:
        weights = day["fitted"]["on"] if day["fitted"] else "none"
        line = f"{day['day']:12}"
        if SERVED in day:
            line += f"{day['users']:6}{day[SERVED]:9.3f}{day[TWO_TOWER]:11.3f}{day[PAST]:7.3f}"
        else:
            line += " " * 33
        lines.append(f"{line}  {weights}")
    measured = [day for day in days[1:] if SERVED in day]
    means = [
        sum(day[name] for day in measured) / len(measured) for name in (SERVED, TWO_TOWER, PAST)
    ]
    lines.append(f"{'mean':18}{means[0]:9.3f}{means[1]:11.3f}{means[2]:7.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=list(SHOPS), default="groceries", help="which log")
    parser.add_argument("--sample", type=int, help="one user in so many")
    parser.add_argument("--days", type=int, default=10, help="days after the first version's")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the pipeline file"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "small_shop", help="where days are kept"
    )
    options = parser.parse_args()
    lay_out, usual_sample = SHOPS[options.case]
    sample = options.sample or usual_sample
    shop = lay_out(options.work / f"{options.case}-{sample}", sample)
    settings = dict(parse_setting(text) for text in options.set)
    shop = Shop(p=override(shop.p, settings), first=shop.first, folder=shop.folder)
    days = []
    for n in range(options.days + 1):
        days.append(run_day(shop, n))
        print(table(days).splitlines()[-2], flush=True) if n else print(days[0]["day"], flush=True)
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "days": days}, indent=1))
    print(table(days))


if __name__ == "__main__":
    main()
