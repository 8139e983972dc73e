"""One contender on one corpus, in a process of its own.

    worker.py build NAME CORPUS HOME K TARGET    builds and tunes, writes HOME/index and HOME/built.json
    worker.py serve NAME CORPUS HOME K           opens HOME/index, then answers lines of standard input with JSON lines:
                                                 `recall`, `batch` or `one`, the last two with
                                                 seconds of wall and CPU

CORPUS holds vectors.npy [N, D], tuning.npy and measuring.npy [Q, D], and the scores of the k-th
exact neighbours, kth-tuning.npy and kth-measuring.npy [Q]. A contender has `build`, `ladders`,
`use`, `search`, `save` and `load`.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from index_builder.settings_search import Recall, Truth, recall

BATCH = 256
SINGLES = 500
BATCHES = 8
_TIMED = 512


def contender(name: str, dimension: int) -> Any:
    """A new one, by name."""
    if name.startswith("twinspire/"):
        from benchmarks.neighbours import ours as module
    else:
        from benchmarks.neighbours import peers as module
    return module.CONTENDERS[name](dimension)


def read(corpus: Path, queries: str, k: int) -> tuple[np.ndarray, Truth]:
    """Vectors and queries of a corpus."""
    vectors = np.load(corpus / "vectors.npy", mmap_mode="r")
    return vectors, Truth(
        np.load(corpus / f"{queries}.npy"), np.load(corpus / f"kth-{queries}.npy"), k
    )


def build(name: str, corpus: Path, home: Path, k: int, target: float) -> None:
    """Builds, tunes for the recall on the tuning queries, and keeps what it took."""
    stored, truth = read(corpus, "tuning", k)
    vectors = np.array(stored)
    made = contender(name, stored.shape[1])
    began = time.perf_counter()
    spent = time.process_time()
    if hasattr(made, "tune"):
        made.tune(vectors, truth.queries, k, target)
    else:
        made.build(vectors)
    built = time.perf_counter() - began
    settings = made.settings() if hasattr(made, "settings") else tuned(made, stored, truth, target)
    told = {
        "settings": settings,
        "build_seconds": built,
        "tuned_seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    home.mkdir(parents=True, exist_ok=True)
    made.save(home / "index")
    (home / "built.json").write_text(json.dumps(told, indent=1))


def tuned(made: Any, vectors: np.ndarray, truth: Truth, target: float) -> dict[str, Any] | None:
    """Of each ladder the first settings that surely reach the recall, and of these the fastest;
    None if none do.
    """
    reached = []
    for ladder in made.ladders():
        low = 0
        high = len(ladder)
        while low < high:
            middle = (low + high) // 2
            made.use(ladder[middle])
            if recall(vectors, truth, made.search(truth.queries, truth.k)).sure >= target:
                high = middle
            else:
                low = middle + 1
        if low < len(ladder):
            made.use(ladder[low])
            taken = min(
                cpu_seconds(lambda: made.search(truth.queries[:_TIMED], truth.k)) for _ in range(3)
            )
            reached.append((taken, ladder[low]))
    return min(reached, key=lambda pair: pair[0])[1] if reached else None


def cpu_seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def resident_mb() -> float:
    """Memory that the process holds, files that it maps and has read included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def serve(name: str, corpus: Path, home: Path, k: int) -> None:
    """Answers until the input ends."""
    vectors, truth = read(corpus, "measuring", k)
    made = contender(name, vectors.shape[1])
    before = resident_mb()
    made.load(home / "index")
    if settings := json.loads((home / "built.json").read_text())["settings"]:
        made.use(settings)
    made.search(truth.queries, k)
    memory = resident_mb() - before
    queries = truth.queries
    batches = [queries[i : i + BATCH] for i in range(0, min(len(queries), BATCH * BATCHES), BATCH)]
    asked = {"batch": batches, "one": [query[None] for query in queries[:SINGLES]]}
    for line in sys.stdin:
        if line.strip() == "recall":
            found: Recall = recall(vectors, truth, made.search(queries, k))
            told = {"recall": found.mean, "memory_mb": memory}
        else:
            began = time.perf_counter()
            spent = time.process_time()
            for part in asked[line.strip()]:
                made.search(part, k)
            wall = time.perf_counter() - began
            cpu = time.process_time() - spent
            told = {
                "queries": sum(map(len, asked[line.strip()])),
                "seconds": wall,
                "cpu_seconds": cpu,
            }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    what, name, corpus, home, k, *target = sys.argv[1:]
    if what == "build":
        build(name, Path(corpus), Path(home), int(k), float(target[0]))
    else:
        serve(name, Path(corpus), Path(home), int(k))
