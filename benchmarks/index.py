"""Queries per second of indexes with the same recall: 0.98 of the 100 nearest neighbours.

    python -m benchmarks.index --json index.json            1,000,000 synthetic item vectors
    python -m benchmarks.index --quick --json index.json    20,000 synthetic vectors
    python -m benchmarks.index --day work/groceries/stages/…/embed/0001-…    also the vectors of a day

Contenders:

    twinspire/exact    this project's exact search, which serves small catalogues
    twinspire/index    the index that the index stage builds and tunes
    hnswlib/hnsw       a graph, 16 links, breadth 200 while building
    faiss/hnsw         the same in FAISS
    faiss/ivf-pq       lists and codes of 8 bits per two dimensions; the best are rescored exactly
    faiss/ivf-pq-fs    the same with codes of 4 bits (fast scan)

All choose their settings on the same sample of queries, by the same rule: the fastest settings (ours: those
with the least counted work) with a recall three standard errors above the target. Recall, queries per second
and memory are measured on other queries, after a fresh process has opened the stored index. Contenders take
turns: `batch` sends 256 queries at once, `one` sends them one by one. `cpu_ms` is the CPU time of a query in
a batch, over all cores: it is fairer if the machine has other work. `memory_mb` is the memory for opening the
index and searching it. A contender without settings that reach the target has no figures.

Built indexes are kept in work/index (or --work), and a stopped benchmark continues from there.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

from benchmarks.neighbours import corpora
from benchmarks.quality.command import environment, machine, write_whole

K = 100
TARGET = 0.98
OURS = ("twinspire/exact", "twinspire/index")
PEERS = ("hnswlib/hnsw", "faiss/hnsw", "faiss/ivf-pq", "faiss/ivf-pq-fs")
MADE = 1_000_000
QUICK = 20_000
ROUNDS = 5
"""Number of timed rounds per contender."""
WORKER = ("-m", "benchmarks.neighbours.worker")
UNITS = {
    "recall@100": "share",
    "batch": "queries/s",
    "one": "queries/s",
    "cpu_ms": "ms",
    "memory_mb": "MB",
}
UNITS |= {"build_s": "s", "tuned_s": "s", "build_cpu_s": "s", "build_peak_mb": "MB"}


def python_of(name: str, work: Path) -> str:
    """The Python with a contender's libraries."""
    if name in OURS:
        return sys.executable
    return str(environment("neighbours", work))


def built(name: str, corpus: Path, work: Path) -> dict[str, Any]:
    """Builds and tunes a contender, unless that is done; returns the record of worker.py."""
    home = corpus / name.replace("/", "-")
    file = home / "built.json"
    if not file.exists():
        print(f"{corpus.name}: building {name}", flush=True)
        command = [python_of(name, work), *WORKER, "build", name, str(corpus), str(home)]
        command += [str(K), str(TARGET)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(file.read_text())


Ask = Callable[[str], dict[str, float]]


@contextmanager
def serving(name: str, corpus: Path, work: Path) -> Iterator[Ask]:
    """Opens a contender's index; yields a function that measures it."""
    home = corpus / name.replace("/", "-")
    command = [python_of(name, work), *WORKER, "serve", name, str(corpus), str(home), str(K)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout

        def ask(request: str) -> dict[str, float]:
            print(request, file=process.stdin, flush=True)
            answer = process.stdout.readline() if process.stdout else ""
            if not answer:
                sys.exit(f"{name} ended while it was asked for {request}.")
            return json.loads(answer)

        yield ask
        process.stdin.close()


def compared(
    case: str, corpus: Path, names: Sequence[str], rounds: int, work: Path
) -> list[dict[str, Any]]:
    """Measures contenders on a corpus, in turns, and prints the figures."""
    figures: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        asks: dict[str, Ask] = {}
        for name in names:
            record = built(name, corpus, work)
            print(f"{name:18} {record['settings'] or f'no settings reach {TARGET}'}", flush=True)
            figures[name] = {
                "build_s": [record["build_seconds"]],
                "tuned_s": [record["tuned_seconds"]],
                "build_cpu_s": [record["cpu_seconds"]],
                "build_peak_mb": [record["peak_mb"]],
            }
            if record["settings"] is not None:
                asks[name] = stack.enter_context(serving(name, corpus, work))
                first = asks[name]("recall")
                figures[name] |= {
                    "recall@100": [first["recall"]],
                    "memory_mb": [first["memory_mb"]],
                }
        for _ in range(rounds):
            for name, ask in asks.items():
                batch = ask("batch")
                single = ask("one")
                for metric, value in {
                    "batch": batch["queries"] / batch["seconds"],
                    "one": single["queries"] / single["seconds"],
                    "cpu_ms": batch["cpu_seconds"] / batch["queries"] * 1e3,
                }.items():
                    figures[name].setdefault(metric, []).append(value)
    rows = [
        _row(case, name, metric, values)
        for name, measures in figures.items()
        for metric, values in measures.items()
    ]
    for row in rows:
        spread = f"{row['low']:.4g} to {row['high']:.4g}" if row["low"] < row["high"] else ""
        print(
            f"{case:28} {row['contender']:18} {row['metric']:14} {row['value']:10.4g}"
            f" {row['unit']:10} {spread}"
        )
    return rows


def _row(case: str, name: str, metric: str, values: list[float]) -> dict[str, Any]:
    """The median, and the range."""
    row = {"case": case, "contender": name, "metric": metric, "unit": UNITS[metric]}
    return {**row, "value": median(values), "low": min(values), "high": max(values)}


def prepared(name: str, vectors: Callable[[], corpora.Vectors], work: Path) -> Path:
    """The folder of a corpus, which is written if it does not exist."""
    folder = work / name
    if not (folder / "kth-measuring.npy").exists():
        corpora.write(vectors(), folder, K)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK:,} synthetic items and one round"
    )
    parser.add_argument("--day", type=Path, help="folder of the stage `embed` of a day")
    parser.add_argument(
        "--only",
        action="append",
        choices=(*OURS, *PEERS),
        help="only this contender; may be repeated",
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "index", help="folder of built indexes"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    items = QUICK if options.quick else MADE
    cases = {f"made, {items:,} items": (f"made-{items}", lambda: corpora.made(items))}
    if options.day:
        cases[str(options.day)] = (options.day.name, lambda: corpora.of_day(options.day))
    names = options.only or OURS + PEERS
    rounds = 1 if options.quick else ROUNDS
    rows = []
    for case, (folder, vectors) in cases.items():
        corpus = prepared(folder, vectors, options.work)
        rows += compared(case, corpus, names, rounds, options.work)
        if options.json:
            write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
