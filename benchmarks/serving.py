"""Requests per second and latency of the server, with the client on the same machine.

    python -m benchmarks.serving --json serving.json            50,000 items, three rounds of 20 seconds
    python -m benchmarks.serving --quick --json serving.json    5,000 items, one round of 3 seconds

One user per request, half by the id of a user whom the version knows, half by a history of 20 items; k = 50, ids
and scores come back;
32 keep-alive connections, each asking again as soon as it is answered. Versions of a made-up shop
are published by the commands first and kept (work/serving, or TWINSPIRE_BENCHMARKS). Contenders:

    twinspire/mean        the two-tower, histories averaged
    twinspire/attention   the two-tower, histories read by self-attention
    twinspire/fixed-order the default answer of the first one's version: all its sources
    twinspire/ranked      lists by the ranker of a copy of it, of made-up labels: the sources, features and trees of a
                          grocery version

All of them run, but only one is queried at a time; they take turns. `batch` is the number of queries
that were answered together. `cpu_ms` is the processor time of the server for one request; other work on
the machine changes it less than the rest. `errors` counts answers without status 200 or without a valid
list. `p99_under_load_ms` is the p99 of the same 32
connections while one more client sends the most costly request that is allowed
(benchmarks/load/costly.py), the largest of its kinds, and `times_alone` that over the p99 without it.

`--parts` measures nothing but the CPU milliseconds of a query of `twinspire/ranked` by part, in one process without
HTTP, and how many candidates a query has.

`p99_of_8_ms` is the p99 of 8 connections alone. `of_8_with KIND` is their p99 while another client sends
one kind of costly request. Each should be at most 100 ms on an idle machine of two cores. `--costly`
measures only these:

    python -m benchmarks.serving --costly --only twinspire/ranked

`share_with PAGE` is the requests per second while four clients read a page over and over, as a share of those before
and after. Each should be at least 0.8. `--pages` measures only these.
"""

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent

import numpy as np

from benchmarks.load import client, made_ranker, servers, world
from benchmarks.load.costly import Costly, costly, get, sending
from benchmarks.load.parts import parts
from benchmarks.quality.command import machine, write_whole

RESULTS = ROOT / "benchmarks" / "serving.json"
PAGE = ROOT / "docs" / "measurements.md"
BEGIN = "<!-- serving: begin -->"
END = "<!-- serving: end -->"
K = 50
CONNECTIONS = 32
FEW = 8
UNITS = {
    "requests/s": "1/s",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "errors": "answers",
    "cpu_ms": "ms",
    "batch": "queries",
    "peak_mb": "MB",
}
UNDER_LOAD = "of_8_with "
PAGES = ("/", "/docs", "/openapi.json", "/metrics")
PAGE_READERS = 4
UNITS |= {"p99_of_8_ms": "ms", "p99_under_load_ms": "ms", "times_alone": "ratio"}
Figures = dict[str, list[float]]


class Size(NamedTuple):
    """How much is measured."""

    items: int
    rounds: int
    seconds: float


WHOLE = Size(50_000, 3, 20)
QUICK = Size(5_000, 1, 3)


def contenders(
    size: Size, names: list[str], folder: Path
) -> dict[str, tuple[list[str], str | None]]:
    """The command and the source of each."""
    mean = world.published(folder, "mean", size.items)
    commands: dict[str, tuple[list[str], str | None]] = {}
    for name in names:
        if name == "twinspire/attention":
            commands[name] = (
                servers.ours(world.published(folder, "attention", size.items)),
                "two_tower",
            )
        elif name == "twinspire/ranked":
            commands[name] = (servers.ours(made_ranker.published(folder, size.items)), "ranked")
        else:
            commands[name] = (
                servers.ours(mean),
                None if name == "twinspire/fixed-order" else "two_tower",
            )
    return commands


def measure(server: servers.Server, asked: list[bytes], seconds: float) -> dict[str, float]:
    """One round."""
    before = [
        servers.figure(server, f"twinspire_batch_queries_{part}") for part in ("sum", "count")
    ]
    cpu = servers.cpu_seconds(server)
    run = client.run(server.port, asked, connections=CONNECTIONS, seconds=seconds)
    cpu = servers.cpu_seconds(server) - cpu
    queries, batches = (
        servers.figure(server, f"twinspire_batch_queries_{part}") - old
        for part, old in zip(("sum", "count"), before, strict=True)
    )
    wrong = sum(not is_list(body) for body in run.sample)
    return {
        "requests/s": len(run.latencies) / run.seconds,
        "p50_ms": float(np.percentile(run.latencies, 50)),
        "p99_ms": float(np.percentile(run.latencies, 99)),
        "errors": run.errors + wrong,
        "cpu_ms": 1000 * cpu / len(run.latencies),
        "batch": queries / batches,
    }


def measure_under_load(
    server: servers.Server,
    asked: list[bytes],
    costly: dict[str, Costly],
    seconds: float,
    p99: float,
) -> dict[str, float]:
    """The largest p99 while another client sends costly requests of one kind."""
    worst = max(_p99_by_kind(server, asked, costly, seconds, CONNECTIONS).values())
    return {"p99_under_load_ms": worst, "times_alone": worst / p99}


def measure_few(
    server: servers.Server, asked: list[bytes], costly: dict[str, Costly], seconds: float
) -> dict[str, float]:
    """The p99 of a few connections, alone and with each kind of costly request."""
    alone = client.run(server.port, asked, connections=FEW, seconds=seconds)
    waited = _p99_by_kind(server, asked, costly, seconds, FEW)
    few = {"p99_of_8_ms": float(np.percentile(alone.latencies, 99))}
    return few | {UNDER_LOAD + kind: p99 for kind, p99 in waited.items()}


def _p99_by_kind(
    server: servers.Server,
    asked: list[bytes],
    costly: dict[str, Costly],
    seconds: float,
    connections: int,
) -> dict[str, float]:
    """The p99 while another client sends costly requests, by their kind."""
    p99: dict[str, float] = {}
    for kind, one in costly.items():
        with sending(server.port, one):
            run = client.run(server.port, asked, connections=connections, seconds=seconds)
        # Without any answer, the p99 is the whole time.
        p99[kind] = (
            float(np.percentile(run.latencies, 99)) if len(run.latencies) else 1000 * seconds
        )
        print(
            f"  {connections} with {kind:12} p99_ms {p99[kind]:10.4g}, errors {run.errors}",
            flush=True,
        )
    return p99


def measure_pages(
    server: servers.Server, asked: list[bytes], _: dict[str, Costly], seconds: float
) -> dict[str, float]:
    """Requests per second while four clients read a small page, as a share of those before and after."""
    shares = {}
    speeds = [_speed(server, asked, seconds)]
    for path in PAGES:
        with ExitStack() as stack:
            for _one in range(PAGE_READERS):
                stack.enter_context(sending(server.port, Costly(get(path))))
            with_readers = _speed(server, asked, seconds)
        speeds.append(_speed(server, asked, seconds))
        shares[f"share_with {path}"] = with_readers / float(np.mean(speeds[-2:]))
        print(f"  {PAGE_READERS} readers of {path}: {shares[f'share_with {path}']:.2f}", flush=True)
    return shares


def _speed(server: servers.Server, asked: list[bytes], seconds: float) -> float:
    run = client.run(server.port, asked, connections=CONNECTIONS, seconds=seconds)
    return len(run.latencies) / run.seconds


def is_list(body: bytes) -> bool:
    """Whether an answer holds K distinct items, best first."""
    said = json.loads(body)
    scores = said.get("scores", [])
    return len(set(said.get("items", []))) == len(scores) == K and scores == sorted(
        scores, reverse=True
    )


def compared(
    size: Size, names: list[str], folder: Path, *, only_costly: bool = False, pages: bool = False
) -> list[dict[str, Any]]:
    """Measures all contenders in turns, and prints as it goes."""
    figures: dict[str, Figures] = {name: {} for name in names}
    with ExitStack() as stack:
        started = {}
        for name, (command, source) in contenders(size, names, folder).items():
            asked = client.requests(world.bodies(size.items, K, source))
            started[name] = (stack.enter_context(servers.serving(name, command)), asked)
        for server, asked in started.values():
            client.run(server.port, asked, connections=CONNECTIONS, seconds=min(2, size.seconds))
        for number in range(size.rounds):
            for name, (server, asked) in started.items():
                measures = {} if only_costly else measure(server, asked, size.seconds)
                kinds = costly(size.items)
                if measures:
                    measures |= measure_under_load(
                        server, asked, kinds, size.seconds / 4, measures["p99_ms"]
                    )
                few = measure_pages if pages else measure_few
                measures |= few(server, asked, kinds, size.seconds / 4)
                for metric, value in measures.items():
                    figures[name].setdefault(metric, []).append(value)
                    print(
                        f"{number + 1} {name:20} {metric:10} {value:10.4g} {_unit(metric)}",
                        flush=True,
                    )
        for name, (server, _) in started.items():
            figures[name]["peak_mb"] = [servers.peak_mb(server)]
    case = f"{size.items} items"
    return [
        _row(case, name, metric, values)
        for name, of in figures.items()
        for metric, values in of.items()
    ]


def _unit(metric: str) -> str:
    return UNITS.get(metric, "ms" if metric.startswith(UNDER_LOAD) else "")


def _row(case: str, name: str, metric: str, values: list[float]) -> dict[str, Any]:
    """The median, and the range."""
    row = {"case": case, "contender": name, "metric": metric, "unit": _unit(metric)}
    return {**row, "value": float(np.median(values)), "low": min(values), "high": max(values)}


def load_table(results: dict[str, Any]) -> str:
    """What docs/measurements.md shows of a run: the p99 alone and with costly requests."""
    rows = {(row["contender"], row["metric"]): row for row in results["rows"]}
    lines = [
        "| 32 connections | requests/s | p99 alone | with the most costly request | times |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(row["contender"] for row in results["rows"]):
        if (name, "times_alone") not in rows:
            continue
        speed, alone, waited, times = (
            rows[name, metric]
            for metric in ("requests/s", "p99_ms", "p99_under_load_ms", "times_alone")
        )
        lines.append(
            f"| {name} | {speed['value']:,.0f} | {alone['value']:.0f} ms | {waited['value']:.0f} ms"
            f" | {times['value']:.2f}, {times['low']:.2f} to {times['high']:.2f} |"
        )
    lines += [
        "",
        f"Before it began, the machine had a load average of {results['load']:.1f} from other work.",
    ]
    return "\n".join(lines)


def write_page(results: dict[str, Any]) -> None:
    """Keeps a run, and puts its table between the marks of docs/measurements.md."""
    write_whole(RESULTS, json.dumps(results, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{load_table(results)}\n{END}{rest.split(END)[1]}")


def main() -> None:
    names = [
        "twinspire/mean",
        "twinspire/attention",
        "twinspire/fixed-order",
        "twinspire/ranked",
    ]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smaller corpus, for a moment")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--only", action="append", choices=names, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--costly", action="store_true", help="only the p99 of 8 connections with costly requests"
    )
    parser.add_argument(
        "--pages", action="store_true", help="only requests/s while four clients read a small page"
    )
    parser.add_argument("--parts", action="store_true", help="only CPU time by part of an answer")
    parser.add_argument("--seconds", type=float, help="of a round")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write benchmarks/serving.json and docs/measurements.md",
    )
    options = parser.parse_args()
    size = QUICK if options.quick else WHOLE
    if options.seconds:
        size = size._replace(seconds=options.seconds)
    if options.parts:
        pipeline = made_ranker.published(world.scratch(), size.items)
        for name, value in parts(pipeline, world.bodies(size.items, K, "ranked")).items():
            print(f"{name:20} {value:10.4g}")
        return
    results = {"machine": machine(), "load": os.getloadavg()[0]}
    rows = compared(
        size,
        options.only or names,
        world.scratch(),
        only_costly=options.costly or options.pages,
        pages=options.pages,
    )
    results["rows"] = rows
    for row in rows:
        print(
            f"{row['contender']:20} {row['metric']:10} {row['value']:10.4g}, {row['low']:.4g} to"
            f" {row['high']:.4g}"
        )
    if options.json:
        write_whole(options.json, json.dumps(results, indent=1))
    if options.write:
        write_page(results)


if __name__ == "__main__":
    main()
