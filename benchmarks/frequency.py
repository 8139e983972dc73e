"""The error of streaming estimates of sampling probabilities: the simulation of Yi et al., RecSys 2019,
section 6.1.

    python -m benchmarks.frequency            20,000 steps, three seeds
    python -m benchmarks.frequency --quick    one seed, 2,500 steps, weights reversed after 1,000

Each batch has 128 of 1,000 items, drawn without replacement. The weight of item i is i^2, and (999 - i)^2
after step 10,000. The error is sum |p_hat - p| / 256, where p is an item's probability of being in a batch.
As in the paper, some contenders differ in learning rates, others in hashes with equal memory. `paper/…` is
Algorithm 2; `…, 1/hits` has the rate max(alpha, 1 / hits). `twinspire/…` is this project's estimate
(docs/decisions/0005). It must answer for items outside the batch, too. So it counts an open gap that is
longer than the mean: it notices vanished items sooner, but is noisier while nothing changes.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Protocol

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ITEMS = 1000
BATCH = 128
EVERY = 250
"""Steps between two measured errors."""
WHOLE = {"seeds": 3, "steps": 20_000, "switch": 10_000}
QUICK = {"seeds": 1, "steps": 2500, "switch": 1000}
SHOWN = (250, 1000, 5000, 10_000, 10_250, 12_500, 20_000)


class Estimate(Protocol):
    """An estimate of each item's probability of being in a batch."""

    def update(self, items: np.ndarray) -> None:
        """Counts a batch of item numbers."""

    def probabilities(self) -> np.ndarray:
        """The estimate for all items, [ITEMS]."""


class Paper:
    """Algorithm 2: per bucket, the step of the last hit and the mean gap, initially 100 steps."""

    def __init__(
        self, seed: int, *, alpha: float, buckets: int, hashes: int = 1, by_hits: bool = False
    ) -> None:
        self.places = np.random.default_rng([1, seed]).integers(0, buckets, (hashes, ITEMS))
        self.alpha = alpha
        self.by_hits = by_hits
        self.step = 0
        self.last = np.zeros((hashes, buckets))
        self.hits = np.zeros((hashes, buckets))
        self.gap = np.full((hashes, buckets), 100.0)

    def update(self, items: np.ndarray) -> None:
        self.step += 1
        for row, buckets in enumerate(self.places):
            hit, count = np.unique(buckets[items], return_counts=True)
            gap = self.step - self.last[row, hit]
            # Items that collide count as one gap, followed by gaps of 0.
            for occurrence in range(count.max()):
                again = count > occurrence
                at = hit[again]
                self.hits[row, at] += 1
                rate = self.alpha
                if self.by_hits:
                    rate = np.maximum(self.alpha, 1 / self.hits[row, at])
                new_gap = gap[again] if occurrence == 0 else 0
                self.gap[row, at] += rate * (new_gap - self.gap[row, at])
            self.last[row, hit] = self.step

    def probabilities(self) -> np.ndarray:
        gaps = [gap[buckets] for gap, buckets in zip(self.gap, self.places, strict=True)]
        return 1 / np.max(gaps, axis=0)


class Ours:
    """`model.losses.sampling_probability.StreamingFrequency`, for items inside and outside the batch."""

    def __init__(self, seed: int, *, alpha: float, buckets: int, hashes: int = 1) -> None:
        import tensorflow as tf

        from model.item_fingerprint import fingerprint
        from model.losses.sampling_probability import StreamingFrequency

        self.estimate = StreamingFrequency(
            alpha=alpha, buckets=buckets, hashes=hashes, initial_gap=100.0 * BATCH
        )
        self.names = fingerprint([f"{seed}/{i}" for i in range(ITEMS)])
        self._update = tf.function(
            self.estimate.update, input_signature=[tf.TensorSpec([None], tf.int64)]
        )

    def update(self, items: np.ndarray) -> None:
        self._update(self.names[items])

    def probabilities(self) -> np.ndarray:
        return BATCH * np.exp(self.estimate.log_q(self.names).numpy())


RATES: dict[str, Callable[[int], Estimate]] = {
    "paper/alpha=.1": lambda seed: Paper(seed, alpha=0.1, buckets=5000),
    "paper/alpha=.03": lambda seed: Paper(seed, alpha=0.03, buckets=5000),
    "paper/alpha=.01": lambda seed: Paper(seed, alpha=0.01, buckets=5000),
    "twinspire/alpha=.1": lambda seed: Ours(seed, alpha=0.1, buckets=5000),
    "twinspire/alpha=.01": lambda seed: Ours(seed, alpha=0.01, buckets=5000),
}
HASHES: dict[str, Callable[[int], Estimate]] = {
    "paper/alpha=.01": RATES["paper/alpha=.01"],
    "paper/alpha=.01 m=2": lambda seed: Paper(seed, alpha=0.01, buckets=2500, hashes=2),
    "paper/alpha=.01 m=4": lambda seed: Paper(seed, alpha=0.01, buckets=1250, hashes=4),
    "paper/alpha=.01 m=4, 1/hits": lambda seed: Paper(
        seed, alpha=0.01, buckets=1250, hashes=4, by_hits=True
    ),
    "twinspire/alpha=.01 m=4": lambda seed: Ours(seed, alpha=0.01, buckets=1250, hashes=4),
}


def simulate(
    estimate: Estimate, *, seed: int, steps: int, switch: int
) -> Iterator[tuple[int, float]]:
    """Yields (step, error) at every `EVERY` steps."""
    rng = np.random.default_rng([0, seed])
    weights = np.arange(ITEMS) ** 2.0
    probability = probabilities_in_batch(weights)
    with np.errstate(divide="ignore"):
        for step in range(1, steps + 1):
            if step == switch + 1:
                weights = weights[::-1]
                probability = probability[::-1]
            # The earliest arrivals of Poisson processes with these rates are distributed like items
            # drawn one by one by weight, without replacement.
            arrivals = rng.exponential(size=ITEMS) / weights
            estimate.update(np.argpartition(arrivals, BATCH)[:BATCH])
            if step % EVERY == 0:
                off = np.abs(estimate.probabilities() - probability)
                yield step, float(off.sum() / 2 / BATCH)


def probabilities_in_batch(weights: np.ndarray) -> np.ndarray:
    """Each item's probability of being in a batch: 1 - exp(-t w), the probability that it arrives before the
    time t at which `BATCH` items are expected to have arrived.
    """
    share = weights / weights.sum()
    low = 0.0
    high = 1e6
    for _ in range(100):  # bisection
        middle = (low + high) / 2
        if (1 - np.exp(-middle * share)).sum() < BATCH:
            low = middle
        else:
            high = middle
    return 1 - np.exp(-low * share)


def measure(*, seeds: int, steps: int, switch: int) -> dict[str, np.ndarray]:
    """Errors of every contender, [seeds, steps / EVERY]."""
    curves = {}
    for name, make in (RATES | HASHES).items():
        errors = []
        for seed in range(seeds):
            run = simulate(make(seed), seed=seed, steps=steps, switch=switch)
            errors.append([error for _, error in run])
        curves[name] = np.array(errors)
        means = curves[name].mean(axis=0)
        shown = [f"{means[step // EVERY - 1]:7.3f}" for step in _shown(steps, switch)]
        print(f"{name:30}", *shown, flush=True)
    return curves


def _shown(steps: int, switch: int) -> list[int]:
    return list(SHOWN) if steps == SHOWN[-1] else sorted({EVERY, switch, switch + EVERY, steps})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed, fewer steps")
    options = parser.parse_args()
    size = QUICK if options.quick else WHOLE
    print(f"{'error at step':30}", *(f"{step:7}" for step in _shown(size["steps"], size["switch"])))
    measure(**size)


if __name__ == "__main__":
    main()
