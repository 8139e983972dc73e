"""`python -m examples.grocery_demo` runs the demo. With `--airflow` it only starts Airflow's UI, until
Ctrl-C.
"""

import argparse
import signal
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from rich.console import Console

from examples.grocery_demo import backfill, demo_report, groceries
from examples.local_airflow.server import LocalAirflow, free_port
from twinspire_core.config import pipeline as pipelines
from twinspire_core.errors import TwinspireError

ROOT = Path(__file__).parents[2]
HOME = ROOT / "work" / "airflow"
PIPELINES = ROOT / "pipelines"
FIRST = date(2017, 10, 2)  # a Monday, with all of September behind it
DAYS = 3

console = Console(highlight=False, emoji=False)


def main(arguments: list[str]) -> int:
    """Runs the demo and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.grocery_demo", description=__doc__)
    parser.add_argument(
        "--airflow", action="store_true", help="only start Airflow's UI, until Ctrl-C"
    )
    parser.add_argument("--days", type=int, default=DAYS, help=f"days to run (default {DAYS})")
    parser.add_argument(
        "--port",
        type=int,
        default=free_port(8080),
        help="port of Airflow's UI (default 8080, or a free one)",
    )
    chosen = parser.parse_args(arguments)
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _interrupt)
    try:
        if chosen.airflow:
            _stay(chosen.port)
        else:
            _demo([FIRST + timedelta(days=n) for n in range(chosen.days)], chosen.port)
    except KeyboardInterrupt:
        console.print("\nStopped; no process is left.")
        return 130
    except TwinspireError as e:
        console.print("\n[bold red]The demo stopped.[/]")
        console.print(str(e), markup=False)
        return e.exit_code
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _demo(days: list[date], port: int) -> None:
    began = time.monotonic()
    with console.status("laying out the grocery data as one folder per day …"):
        groceries.lay_out(PIPELINES / "groceries.toml", console)
    pipeline = pipelines.load(PIPELINES / "groceries.toml")
    console.print(f"[bold]Backfill of {days[0]} to {days[-1]} by Airflow, DAG {pipeline.name}[/]")
    # Fresh, so that runs of an interrupted demo do not go on. Their finished stages are skipped
    with LocalAirflow(HOME, PIPELINES, fresh=True, schedule=False, port=port) as airflow:
        rest = backfill.wait_for(airflow, console)
        backfill.run(airflow, rest, pipeline, days, console)
        with console.status("stopping Airflow …"):
            airflow.stop()
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    demo_report.show(pipeline, days, f"{minutes} min {seconds} s", console)


def _stay(port: int) -> None:
    with LocalAirflow(HOME, PIPELINES, schedule=False, port=port) as airflow:
        backfill.wait_for(airflow, console)
        console.print(
            "The schedule is off: start runs and backfills by hand. A DAG must be paused when the"
            " page creates its backfill. Ctrl-C stops Airflow. To use `twinspire backfill --unpause` in"
            " another terminal, type:"
        )
        console.print(
            f"export TWINSPIRE_AIRFLOW_URL={airflow.url} TWINSPIRE_AIRFLOW_USER={airflow.user}"
            f" TWINSPIRE_AIRFLOW_PASSWORD={airflow.password}",
            soft_wrap=True,
        )
        while airflow.running():
            time.sleep(1)
    console.print(f"Airflow ended by itself. Its log: {airflow.log}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
