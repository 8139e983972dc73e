"""Time and memory of the softmax over a batch: in blocks, as training does it, and plainly, all
pairs at once.

    python -m benchmarks.loss --json loss.json            batches of 1,024 to 32,768, 64 dimensions
    python -m benchmarks.loss --quick --json loss.json    of 1,024 and 4,096

`twinspire/blocked` and `plain` are loss and gradients of both sides, with the paper's correction
and without accidental hits. `twinspire/step` is a whole training step: towers over 50,000 items and
histories of up to 50, loss, and the update of weights and frequencies. Every figure is of a process
of its own; memory is its peak above what the imports take. `difference` is the largest difference
of blocked and plain in the loss or a gradient, relative to the largest number of each. The plain
form is left out where its arrays would take a quarter of the memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

import numpy as np

from benchmarks.quality.command import machine, write_whole

SIZES = (1024, 2048, 4096, 8192, 16_384, 32_768)
QUICK = (1024, 4096)
DIMENSION = 64
TEMPERATURE = 0.1
TIMES = 3
COMPARED = 8192
"""The largest batch of which blocked and plain are compared."""
ARRAYS = 6
"""Arrays of all pairs that the plain form has at a time, gradient included."""
UNITS = {"seconds": "s", "peak_mb": "MB", "difference": "share"}


def inputs(size: int) -> tuple[np.ndarray, ...]:
    """Queries and items of length 1, the items' numbers, and how often each is expected among the
    others.
    """
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 20_001)
    share /= share.sum()
    item = rng.choice(len(share), size, p=share)
    rows = rng.normal(size=(2, size, DIMENSION))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    query, vectors = rows.astype(np.float32)
    expected = ((size - 1) * share[item]).astype(np.float32)
    return query, vectors, item, expected


def gradients(contender: str, size: int) -> Callable[[], list[np.ndarray]]:
    """A call that gives loss and gradients."""
    import tensorflow as tf

    from model.losses.corrected_softmax import Candidates, sampled_softmax_loss

    query, vectors, item, expected = map(tf.constant, inputs(size))

    def plain(query: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        own = tf.eye(size, dtype=tf.bool)
        logits = tf.matmul(query, vectors, transpose_b=True) / TEMPERATURE - tf.math.log(expected)
        logits = tf.where((item[:, tf.newaxis] == item) & ~own, -1e30, logits)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(size), logits)
        return tf.reduce_mean(losses)

    def blocked(query: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        candidates = Candidates(vectors, item, expected, tf.zeros(size))
        loss = sampled_softmax_loss(
            query, candidates, tf.ones(size), temperature=TEMPERATURE, correction="batch"
        )
        return loss.total

    @tf.function
    def both(query: tf.Tensor, vectors: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([query, vectors])
            loss = plain(query, vectors) if contender == "plain" else blocked(query, vectors)
        return [loss, *tape.gradient(loss, [query, vectors])]

    return lambda: [x.numpy() for x in both(query, vectors)]


def measure(contender: str, size: int) -> dict[str, float]:
    """Seconds and peak memory of one contender, in this process."""
    import model.losses.corrected_softmax  # noqa: F401
    from benchmarks import training

    before = _memory("VmRSS")
    if contender == "twinspire/step":
        seconds = size / training.rate(training.Case(size, items=50_000, users=20_000), 1 + TIMES)
    else:
        call = gradients(contender, size)
        times = []
        for _ in range(1 + TIMES):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        seconds = float(np.median(times[1:]))  # the first one compiles
    return {"seconds": seconds, "peak_mb": _memory("VmHWM") - before}


def difference(size: int) -> dict[str, float]:
    """The largest difference of blocked and plain, relative to the largest number."""
    blocked = gradients("twinspire/blocked", size)()
    plain = gradients("plain", size)()
    differences = [
        float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for ours, theirs in zip(blocked, plain, strict=True)
    ]
    return {"difference": max(differences)}


def _memory(name: str) -> float:
    """Of this process, in MB: VmRSS is what it takes now, VmHWM the most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status has no {name}.")


def apart(contender: str, size: int) -> dict[str, float]:
    """What a process of its own measures."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.loss",
        "--contender",
        contender,
        "--batch",
        str(size),
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compared(sizes: tuple[int, ...]) -> list[dict]:
    """Measures all contenders, and prints as it goes."""
    rows = []
    quarter_of_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    for size in sizes:
        names = ["twinspire/blocked"]
        if 4 * ARRAYS * size**2 < quarter_of_memory:
            names.append("plain")
        names.append("twinspire/step")
        if size <= COMPARED:
            names.append("difference")
        for name in names:
            contender = "twinspire/blocked" if name == "difference" else name
            for metric, value in apart(name, size).items():
                print(
                    f"{size:6} {contender:18} {metric:10} {value:12.4g} {UNITS[metric]}", flush=True
                )
                row = {
                    "case": f"batch {size}",
                    "contender": contender,
                    "metric": metric,
                    "unit": UNITS[metric],
                }
                rows.append({**row, "value": value, "low": value, "high": value})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two sizes")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--contender", help="only this one, in this process")
    parser.add_argument("--batch", type=int, default=1024, help="its batch size")
    options = parser.parse_args()
    if options.contender:
        if options.contender == "difference":
            figures = difference(options.batch)
        else:
            figures = measure(options.contender, options.batch)
        print(json.dumps(figures))
        return
    rows = compared(QUICK if options.quick else SIZES)
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
