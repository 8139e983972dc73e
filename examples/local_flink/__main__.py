"""A Flink cluster from packages, with Beam's job server and Python workers, to try and to test.

run (the default) starts it, makes features and vectors of a grocery day in process and on the cluster,
compares them file by file, and stops everything. The exit code is 0 if they are equal.
start leaves a cluster running, and prints the lines for a pipeline file. status shows its state. stop
ends it. Several clusters do not disturb each other if each has a --home of its own.
"""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.local_flink.cluster import LocalFlink
from examples.local_flink.comparison import compare, reasons
from examples.local_flink.grocery_day import GroceryDay
from examples.local_flink.jars import CACHE
from examples.local_flink.parts import ROOT
from examples.local_flink.startup import read_steps, startup
from twinspire_core.errors import TwinspireError

console = Console(highlight=False, emoji=False)


def main(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="docker/flink/local.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{CACHE}: the folder where jars are kept (default ~/.cache/twinspire/flink).",
    )
    parser.add_argument(
        "command", nargs="?", default="run", choices=["run", "start", "status", "stop"]
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=ROOT / "work" / "flink",
        help="folder for logs and the day (default work/flink)",
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="TaskManagers with a slot each (default 2)"
    )
    parser.add_argument(
        "--one-host", action="store_true", help="one TaskManager on this host, also as root"
    )
    chosen = parser.parse_args(arguments)
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, _interrupt)
    cluster = LocalFlink(chosen.home, chosen.workers, one_host=chosen.one_host)
    commands = {"run": _run, "start": _start, "status": _status, "stop": _stop}
    try:
        return commands[chosen.command](cluster)
    except KeyboardInterrupt:
        console.print("\nStopped; no process is left.")
        return 130
    except TwinspireError as e:
        console.print(str(e), markup=False, style="red")
        return e.exit_code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(cluster: LocalFlink) -> int:
    try:
        day = GroceryDay(cluster.home / "day", console)
        day.prepare()
        _bring_up(cluster, stay=False)
        for stage in ("features", "embed"):
            before = cluster.cpu_seconds()
            day.redo(stage, cluster.options)
            jobs = ", ".join(f"{job['duration'] / 1000:.0f} s" for job in cluster.rest.jobs()[-2:])
            computed = cluster.cpu_seconds() - before
            console.print(
                f"{'':9} the cluster computed {computed:.0f} s; its last jobs took {jobs}"
            )
        # The last job is that of embed.
        job = cluster.rest.jobs()[-1]
        share = startup(read_steps(cluster.rest, job["jid"])) / job["duration"]
        console.print(f"{'':9} start-up was {share:.0%} of the job of embed, at least")
        equal = _tell(day)
        free = cluster.rest.free_slots()
        console.print(
            f"Jobs that still run in the cluster: {len(cluster.rest.jobs('RUNNING'))};"
            f" free slots: {free} of {cluster.workers}"
        )
    finally:
        with console.status("stopping the cluster …"):
            cluster.stop()
    console.print(f"Stopped; processes left: {len(cluster.processes())}")
    return 0 if equal else 1


def _bring_up(cluster: LocalFlink, *, stay: bool) -> None:
    with console.status("fetching Flink and Beam's job server, the first time …") as status:
        cluster.start(stay=stay)
        cluster.wait_until_ready(lambda missing: status.update(f"waiting for {missing} …"))
    places = "each on a host of its own" if cluster.spread else "on this host"
    console.print(f"Flink is ready: {cluster.workers} slots, {places}; logs in {cluster.home}")


def _tell(day: GroceryDay) -> bool:
    """Prints what is equal; whether all is that has to be."""
    table = Table("stage", "files of", "equal bytes", "differ by chance", "differ")
    wrong = 0
    for stage in ("features", "embed"):
        groups = compare(day.output("in process", stage), day.output("Flink", stage))
        for name, group in groups.items():
            wrong += len(group.wrong)
            chance = f"{len(group.random)}: {'; '.join(reasons(group))}" if group.random else ""
            table.add_row(stage, name, str(group.equal), chance, "\n".join(group.wrong))
    console.print(table)
    console.print(
        f"[bold red]{wrong} files differ that must not.[/]"
        if wrong
        else "Equal, but for what differs between any two runs on one runner."
    )
    return not wrong


def _start(cluster: LocalFlink) -> int:
    try:
        _bring_up(cluster, stay=True)
    except BaseException:
        cluster.stop()
        raise
    words = ",\n".join(f'  "{word}"' for word in cluster.options)
    console.print(f"In a pipeline file:\n\n[beam]\noptions = [\n{words},\n]", markup=False)
    console.print(f"\nFlink's page: {cluster.rest.url}. To end it: docker/flink/local.sh stop")
    return 0


def _status(cluster: LocalFlink) -> int:
    if not cluster.find():
        console.print(f"No cluster runs in {cluster.home}.")
        return 1
    missing = cluster.missing()
    console.print(f"Waits for {missing}." if missing else "Ready.")
    for job in cluster.rest.jobs():
        console.print(f"{job['state']:9} {job['duration'] / 1000:6.1f} s  {job['name']}")
    return 0


def _stop(cluster: LocalFlink) -> int:
    cluster.find()
    cluster.stop()
    console.print(f"Stopped; processes left: {len(cluster.processes())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
