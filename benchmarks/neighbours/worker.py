"""One contender on one corpus, in its own process.

    worker.py build NAME CORPUS HOME K TARGET    builds and tunes, writes HOME/index and HOME/built.json
    worker.py serve NAME CORPUS HOME K           opens HOME/index, then answers each line of standard input, `recall`,
                                                 `batch` or `one`, with a line of JSON; the last two
                                                 with seconds of wall and CPU time

CORPUS has vectors.npy [N, D], tuning.npy and measuring.npy [Q, D], and the scores of the k-th
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
    """A new contender, by name."""
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
    """Builds and tunes an index on the tuning queries, and stores it with its costs."""
    stored, truth = read(corpus, "tuning", k)
    vectors = np.array(stored)
    index = contender(name, stored.shape[1])
    began = time.perf_counter()
    spent = time.process_time()
    if hasattr(index, "tune"):
        index.tune(vectors, truth.queries, k, target)
    else:
        index.build(vectors)
    built = time.perf_counter() - began
    settings = (
        index.settings() if hasattr(index, "settings") else tuned(index, stored, truth, target)
    )
    record = {
        "settings": settings,
        "build_seconds": built,
        "tuned_seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    home.mkdir(parents=True, exist_ok=True)
    index.save(home / "index")
    (home / "built.json").write_text(json.dumps(record, indent=1))


def tuned(index: Any, vectors: np.ndarray, truth: Truth, target: float) -> dict[str, Any] | None:
    """The fastest of the settings that surely reach the recall; of each ladder only the first counts. None
    if no settings reach it.
    """
    reached = []
    for ladder in index.ladders():
        low = 0
        high = len(ladder)
        while low < high:
            middle = (low + high) // 2
            index.use(ladder[middle])
            if recall(vectors, truth, index.search(truth.queries, truth.k)).sure >= target:
                high = middle
            else:
                low = middle + 1
        if low < len(ladder):
            index.use(ladder[low])
            seconds = min(
                cpu_seconds(lambda: index.search(truth.queries[:_TIMED], truth.k)) for _ in range(3)
            )
            reached.append((seconds, ladder[low]))
    return min(reached, key=lambda pair: pair[0])[1] if reached else None


def cpu_seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def resident_mb() -> float:
    """Resident memory of the process, including mapped files that it has read."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def serve(name: str, corpus: Path, home: Path, k: int) -> None:
    """Answers until the input ends."""
    vectors, truth = read(corpus, "measuring", k)
    index = contender(name, vectors.shape[1])
    before = resident_mb()
    index.load(home / "index")
    if settings := json.loads((home / "built.json").read_text())["settings"]:
        index.use(settings)
    index.search(truth.queries, k)
    memory = resident_mb() - before
    queries = truth.queries
    batches = [queries[i : i + BATCH] for i in range(0, min(len(queries), BATCH * BATCHES), BATCH)]
    requests = {"batch": batches, "one": [query[None] for query in queries[:SINGLES]]}
    for line in sys.stdin:
        if line.strip() == "recall":
            figures: Recall = recall(vectors, truth, index.search(queries, k))
            answer = {"recall": figures.mean, "memory_mb": memory}
        else:
            began = time.perf_counter()
            spent = time.process_time()
            for part in requests[line.strip()]:
                index.search(part, k)
            wall = time.perf_counter() - began
            cpu = time.process_time() - spent
            answer = {
                "queries": sum(map(len, requests[line.strip()])),
                "seconds": wall,
                "cpu_seconds": cpu,
            }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    what, name, corpus, home, k, *target = sys.argv[1:]
    if what == "build":
        build(name, Path(corpus), Path(home), int(k), float(target[0]))
    else:
        serve(name, Path(corpus), Path(home), int(k))
